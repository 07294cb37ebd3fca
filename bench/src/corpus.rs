//! Batches as agents send them, made from a Node's number and a tick: the same arguments yield the same bytes.
//!
//! Sizes follow the agents' defaults: 100 points, 200 lines or 500 audit events per batch. Member order, spacing and
//! number formats are those of Go's `encoding/json`, which the agents use; metric samples carry zero to two labels, one
//! log line in eight holds an escape, one in sixteen a character outside ASCII.

use std::fmt::Write as _;
use std::io::Write as _;

/// Points in a metrics batch at the agents' default.
pub const POINTS: usize = 100;
/// Lines in a log batch at the agents' default.
pub const LINES: usize = 200;
/// Events in an audit batch at the agents' default.
pub const EVENTS: usize = 500;

/// A JSON array of `count` metric samples of one Node, taken in the minute `tick`.
pub fn metrics(node: u64, tick: u64, count: usize) -> Vec<u8> {
    const NODE: [&str; 10] = [
        "cpu_usage_percent",
        "memory_used_bytes",
        "memory_total_bytes",
        "disk_used_bytes",
        "disk_total_bytes",
        "network_rx_bytes",
        "network_tx_bytes",
        "load_avg_1",
        "load_avg_5",
        "load_avg_15",
    ];
    const TUNNEL: [&str; 4] = ["rx_bytes", "tx_bytes", "packet_loss_percent", "last_handshake_timestamp_seconds"];
    const AGENT: [&str; 4] = ["goroutine_count", "heap_alloc_bytes", "gc_pause_total_ns", "uptime_seconds"];

    let mut draw = Draw::new(node, tick);
    let mut out = String::with_capacity(count * 200);
    for index in 0..count {
        out.push(if index == 0 { '[' } else { ',' });
        let peer = node.wrapping_add(draw.below(64) + 1);
        let (group, name) = match index % 10 {
            0..4 => ("node_resources", cycle(&NODE, index)),
            4..8 => ("tunnel_health", cycle(&TUNNEL, index)),
            8 => ("peer_latency", "rtt_seconds"),
            _ => ("agent_stats", cycle(&AGENT, index / 10)),
        };
        let _ = write!(out, r#"{{"group":"{group}","name":"{name}","value":"#);
        if name.ends_with("bytes") || name.ends_with("_ns") {
            let _ = write!(out, "{}", draw.below(1 << 36));
        } else {
            let _ = write!(out, "{}.{}", draw.below(100), draw.below(1_000_000));
        }
        match group {
            "tunnel_health" => {
                let _ = write!(out, r#","labels":{{"peer_id":"{}","workload":"mesh"}}"#, uuid(peer));
            }
            "peer_latency" => {
                let _ = write!(out, r#","labels":{{"peer_id":"{}"}}"#, uuid(peer));
            }
            _ => {}
        }
        write_time(&mut out, tick * 60, &mut draw);
    }
    out.push(']');
    out.into_bytes()
}

/// NDJSON of `count` log lines of one Node, written in the half minute `tick`.
pub fn logs(node: u64, tick: u64, count: usize) -> Vec<u8> {
    const UNITS: [&str; 6] = [
        "sshd.service",
        "systemd-networkd.service",
        "containerd.service",
        "kubelet.service",
        "plexd.service",
        "/var/log/nginx/access.log",
    ];
    const SEVERITIES: [&str; 8] = ["info", "info", "info", "info", "notice", "warning", "debug", "err"];

    let mut draw = Draw::new(node, tick);
    let mut out = String::with_capacity(count * 320);
    for _ in 0..count {
        let severity = draw.pick(&SEVERITIES);
        let unit = draw.pick(&UNITS);
        let _ = write!(out, r#"{{"severity":"{severity}","unit":"{unit}","hostname":"node-{node:05}","message":""#);
        write_message(&mut out, &mut draw);
        out.push('"');
        write_time(&mut out, tick * 30, &mut draw);
        out.push('\n');
    }
    out.into_bytes()
}

/// NDJSON of `count` audit events of one Node, observed in the quarter minute `tick`.
pub fn audit(node: u64, tick: u64, count: usize) -> Vec<u8> {
    const HOST: [&str; 6] = ["USER_LOGIN", "USER_CMD", "EXECVE", "SERVICE_START", "CRED_ACQ", "SYSCALL openat"];
    const CLUSTER: [&str; 5] =
        ["create pods", "get secrets", "list nodes", "update leases.coordination.k8s.io", "watch events"];

    let mut draw = Draw::new(node, tick);
    let mut out = String::with_capacity(count * 120);
    for _ in 0..count {
        let (source, action) =
            if draw.below(2) == 0 { ("auditd", draw.pick(&HOST)) } else { ("k8s", draw.pick(&CLUSTER)) };
        let outcome = if draw.below(12) == 0 { "denied" } else { "success" };
        let _ = write!(out, r#"{{"source":"{source}","action":"{action}","outcome":"{outcome}""#);
        write_time(&mut out, tick * 15, &mut draw);
        out.push('\n');
    }
    out.into_bytes()
}

/// The batch as agents compress it: gzip at the default level.
pub fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    // Writing to memory cannot fail; a short result would fail the first decoder that sees it.
    let _ = encoder.write_all(plain);
    encoder.finish().unwrap_or_default()
}

/// The batch in zstd, level 1.
pub fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(plain, 1).unwrap_or_default()
}

/// The UUID of a Node's number, in the shape of a version 7 id.
pub fn uuid(number: u64) -> String {
    let mixed = mix(number);
    let (high, low) = (mixed >> 32, mixed & 0xffff_ffff);
    format!("01935d2a-{:04x}-7{:03x}-8{:03x}-{:04x}{low:08x}", high & 0xffff, high >> 20, low >> 20, number & 0xffff)
}

fn write_message(out: &mut String, draw: &mut Draw) {
    let (pid, port) = (draw.below(32_768), 1_024 + draw.below(60_000));
    let (a, b, c) = (draw.below(256), draw.below(256), draw.below(256));
    let _ = match draw.below(16) {
        0..4 => write!(
            out,
            "10.{a}.{b}.{c} - - GET /api/v1/items/{pid}?page={b}&limit=50 HTTP/1.1 200 {port} https://shop.example.com/cart \
             Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36 rt=0.{c:03}"
        ),
        4..7 => write!(
            out,
            "Accepted publickey for deploy from 10.{a}.{b}.{c} port {port} ssh2: ED25519 SHA256:kV3fQ0mXyT7{pid:05}bZ1rP9s"
        ),
        7..10 => write!(
            out,
            "E1124 08:00:{:02}.{port:06} {pid} pod_workers.go:1298] Error syncing pod {}, skipping: failed to StartContainer for app with \
             CrashLoopBackOff: back-off 5m0s restarting failed container",
            a % 60,
            uuid(pid)
        ),
        10..13 => write!(out, "wg0: handshake with peer {} ({a}.{b}.{c}.7:{port}) completed in {c} ms", uuid(port)),
        13 => write!(out, "Über {a} °C: Lüfter {b} von {c} läuft mit voller Drehzahl – bitte prüfen"),
        14 => {
            write!(out, r#"level=info msg=\"request done\" path=\"/v1/nodes/{}\" status=200 duration={c}ms"#, uuid(pid))
        }
        _ => write!(
            out,
            "panic: runtime error: index out of range [{a}] with length {b}\\n\\ngoroutine {pid} [running]:\\nmain.(*server).handle(0xc000{port:06x})\\n\
             \\t/src/server.go:{c} +0x1a4"
        ),
    };
}

/// Tick 0 is 2026-11-24T08:00:00Z; after the end of 2026 the corpus starts over in November.
fn write_time(out: &mut String, offset_seconds: u64, draw: &mut Draw) {
    let seconds = offset_seconds + draw.below(15);
    let (days, second) = (23 + (8 * 3_600 + seconds) / 86_400, (8 * 3_600 + seconds) % 86_400);
    let _ = write!(
        out,
        r#","timestamp":"2026-{:02}-{:02}T{:02}:{:02}:{:02}.{:09}Z"}}"#,
        11 + days / 30 % 2,
        days % 30 + 1,
        second / 3_600,
        second / 60 % 60,
        second % 60,
        draw.below(1_000_000_000)
    );
}

fn cycle(names: &[&'static str], index: usize) -> &'static str {
    names.get(index % names.len()).copied().unwrap_or("up")
}

/// Pseudo-random numbers that depend on the Node and the tick alone.
struct Draw(u64);

impl Draw {
    fn new(node: u64, tick: u64) -> Self {
        Self(mix(node ^ mix(tick + 1)))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % bound
    }

    fn pick(&mut self, choices: &[&'static str]) -> &'static str {
        let drawn = usize::try_from(self.below(1 << 16)).unwrap_or(0);
        cycle(choices, drawn)
    }
}

/// The finaliser of SplitMix64.
const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests;
