//! The OpenID Connect relying party: everything about other people's tokens, without HTTP routes and without SQL.
//!
//! Language: a *trust* is an issuer and the place of its discovery document; a *flow* is one browser sign-in; a *machine*
//! proves itself by a client-credentials grant or a JWT-SVID. What is believed comes out as [`IdToken`], [`MachineToken`]
//! or [`Svid`]; each failure is an enum whose `code()` is the problem a caller is told.
//!
//! Invariants:
//!
//! - I1: no request leaves for an address that was not judged after its name was resolved, and the connection goes to the
//!   judged address ([`Fetch`]).
//! - I2: nothing in a token is believed before a key of its issuer's own set has verified it, with an algorithm of our list.
//! - I3: a document or token with a member twice is refused.
//! - I4: an unknown key id causes at most one fetch a minute and issuer.
//! - I5: whatever has time in it takes `now`; nothing here reads a clock.
//! - I6: everything that is kept is bounded, and no secret, token, code, nonce, verifier or state is logged or printed.
//!
//! Seams: [`Resolver`] for names; the caller brings time, secrets and storage.

mod address;
mod assurance;
mod cached;
mod endpoint;
mod fetch;
mod flow;
mod json;
mod jws;
mod kept;
mod keys;
mod machine;
mod provider;
mod return_to;
mod secret;
mod token;
mod user_code;

pub use address::{AddressKind, Reach, judge};
pub use assurance::{AssuranceUnmet, MAX_REQUIRED, RequiredAssurance};
pub use endpoint::{Client, ExchangeFailure, OAuthError};
pub use fetch::{
    Answer, FETCH_WITHIN, Fetch, FetchError, FetchSettings, MAX_ANSWER_BYTES, MAX_FETCHES, MAX_FETCHES_PER_HOST,
    MAX_URL_BYTES, Resolver, SystemResolver,
};
pub use flow::{
    Callback, CallbackFault, FLOW_LIFE, FlowSecrets, MAX_CALLBACK_BYTES, Pending, Prompt, SignIn, SignInFailure,
    authorization_url, finish, same_browser, state_digest,
};
pub use json::JsonFault;
pub use jws::MAX_TOKEN_BYTES;
pub use machine::{ExpectedSvid, GrantFailure, MAX_BUNDLES, SpiffeBundles, SvidFailure, client_credentials};
pub use provider::{
    ClientAuth, DISCOVERY_KEPT, Discovery, DiscoveryFault, MAX_TRUSTS, ProviderError, Providers, Trust,
};
pub use return_to::{MAX_RETURN_TO_BYTES, Origin, OriginError, ReturnTo, ReturnToRefused};
pub use secret::Secret;
pub use token::{
    CLOCK_SKEW, ClaimMappings, Expected, Groups, IdToken, MAX_GROUPS, MachineToken, Svid, TokenRefusal, verify_id_token,
};
pub use user_code::{USER_CODE_ALPHABET, USER_CODE_SYMBOLS, UserCode, UserCodeError};
