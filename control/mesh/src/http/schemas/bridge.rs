//! The bridge part of the snapshot as the contract words it.

use plexsphere_wire::{NodeId, Timestamp};
use utoipa::ToSchema;
use uuid::Uuid;

/// Bridge duties; what is not configured is absent.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct NodeStateBridge {
    /// Relaying for other Peers.
    #[schema(nullable = false)]
    relay: Option<NodeStateBridgeRelay>,
    /// Access for people.
    #[schema(nullable = false)]
    user_access: Option<NodeStateBridgeUserAccess>,
    /// Ingress from outside.
    #[schema(nullable = false)]
    ingress: Option<NodeStateBridgeIngress>,
    /// Tunnels to other networks.
    #[schema(nullable = false)]
    site_to_site: Option<NodeStateBridgeSiteToSite>,
}

/// What the Node relays.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct NodeStateBridgeRelay {
    /// Whether it relays at all.
    enabled: bool,
    /// Where it listens.
    #[schema(minimum = 1, maximum = 65535)]
    listen_port: u16,
    /// For whom, by Node id.
    assignments: Vec<NodeStateBridgeRelayAssignment>,
}

/// A Peer that is relayed.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct NodeStateBridgeRelayAssignment {
    /// The Peer's Node.
    peer_node_id: NodeId,
    /// Where others reach it.
    fallback_endpoint: String,
    /// The port of it.
    #[schema(minimum = 1, maximum = 65535)]
    fallback_endpoint_port: u16,
}

/// Access for people.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct NodeStateBridgeUserAccess {
    /// The ways in, by slug.
    providers: Vec<BridgeUserAccessProviderResponse>,
}

/// A way in for people.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct BridgeUserAccessProviderResponse {
    /// Its id.
    id: Uuid,
    /// Its name.
    #[schema(pattern = r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length = 63)]
    slug: String,
    /// What runs it.
    kind: BridgeUserAccessProviderKind,
    /// The network interface.
    #[schema(min_length = 1)]
    interface_name: String,
    /// Where it listens.
    #[schema(minimum = 1, maximum = 65535)]
    listen_port: u16,
    /// How many may come.
    #[schema(minimum = 1)]
    max_peers: i64,
    /// The secret's reference.
    #[schema(pattern = r"^secret:[^/]+/[^/]+/[^:]+(:[^:]+)?$", max_length = 512)]
    auth_secret_ref: String,
    /// Free-form.
    #[schema(value_type = Object, additional_properties = true)]
    routing_policy: (),
    /// When it was made.
    created_at: Timestamp,
    /// When it last changed.
    updated_at: Timestamp,
}

/// What runs a way in.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "described, never built")]
pub(crate) enum BridgeUserAccessProviderKind {
    /// NetBird.
    Netbird,
    /// Tailscale.
    Tailscale,
    /// WireGuard.
    Wireguard,
}

/// Ingress from outside.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct NodeStateBridgeIngress {
    /// The rules, by slug.
    rules: Vec<BridgeIngressRuleResponse>,
}

/// A name that leads to a Node.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct BridgeIngressRuleResponse {
    /// Its id.
    id: Uuid,
    /// Its name.
    #[schema(pattern = r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length = 63)]
    slug: String,
    /// The host that clients name.
    #[schema(
        pattern = r"^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$",
        max_length = 253,
        min_length = 1
    )]
    sni_host: String,
    /// The Node it leads to.
    target_node_id: NodeId,
    /// The port there.
    #[schema(minimum = 1, maximum = 65535)]
    target_port: u16,
    /// The account for certificates.
    #[schema(nullable = false)]
    acme_account_ref: Option<String>,
    /// When it was made.
    created_at: Timestamp,
    /// When it last changed.
    updated_at: Timestamp,
}

/// Tunnels to other networks.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct NodeStateBridgeSiteToSite {
    /// The tunnels, by slug.
    tunnels: Vec<BridgeSiteToSiteTunnelResponse>,
}

/// A tunnel to another network.
#[derive(ToSchema)]
#[expect(dead_code, reason = "described, never built")]
pub(crate) struct BridgeSiteToSiteTunnelResponse {
    /// Its id.
    id: Uuid,
    /// Its name.
    #[schema(pattern = r"^[a-z0-9]+(-[a-z0-9]+)*$", max_length = 63)]
    slug: String,
    /// Its protocol.
    kind: BridgeSiteToSiteTunnelKind,
    /// The other end.
    #[schema(
        pattern = r"^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*$|^[0-9a-fA-F:.]+$",
        max_length = 253,
        min_length = 1
    )]
    remote_host: String,
    /// The port there.
    #[schema(minimum = 1, maximum = 65535)]
    remote_port: u16,
    /// The secret's reference.
    #[schema(pattern = r"^secret:[^/]+/[^/]+/[^:]+(:[^:]+)?$", max_length = 512)]
    auth_secret_ref: String,
    /// What is behind it.
    allowed_subnets: Vec<String>,
    /// Which way it carries.
    routing_policy: BridgeSiteToSiteTunnelRoutingPolicy,
    /// When it was made.
    created_at: Timestamp,
    /// When it last changed.
    updated_at: Timestamp,
}

/// A tunnel's protocol.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "described, never built")]
pub(crate) enum BridgeSiteToSiteTunnelKind {
    /// WireGuard.
    Wireguard,
    /// IPsec.
    Ipsec,
    /// OpenVPN.
    Openvpn,
}

/// Which way a tunnel carries.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "described, never built")]
pub(crate) enum BridgeSiteToSiteTunnelRoutingPolicy {
    /// Both.
    Bidirectional,
    /// Inwards.
    IngressOnly,
    /// Outwards.
    EgressOnly,
}
