//! Ending sessions, and the cookies of one.

use http::header::SET_COOKIE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use plexsphere_kernel::http::pipeline::{SESSION_COOKIE, cookies, csrf};
use plexsphere_kernel::http::{Call, Gate, Operation, Reply, Scheme};
use plexsphere_kernel::{Authenticated, Credential};
use plexsphere_wire::{Code, Problem};

use super::service::{Opened, Sessions};
use crate::journal::Actor;

const TAG: &str = "auth";

/// Removes the session's cookie.
const CLEAR_SESSION: HeaderValue =
    HeaderValue::from_static("plexsphere_session=; Path=/v1/; Max-Age=0; HttpOnly; SameSite=Strict");
/// Removes the cookie against forged requests.
const CLEAR_CSRF: HeaderValue = HeaderValue::from_static("plexsphere_csrf=; Path=/; Max-Age=0; SameSite=Strict");

/// Whether the request came over TLS, as the edge saw it or was told by a proxy that it trusts.
pub(crate) fn is_secure(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https")
}

/// The `Set-Cookie` lines of a session just opened. They end with the browser; the server ends them sooner.
///
/// # Errors
/// 500 when a value is no header's, which base64url always is.
pub(crate) fn set_cookies(opened: &Opened, secure: bool) -> Result<[HeaderValue; 2], Problem> {
    let secure = if secure { "; Secure" } else { "" };
    let line = |text: String| -> Result<HeaderValue, Problem> {
        let mut value = HeaderValue::try_from(text).map_err(|_| Problem::internal())?;
        value.set_sensitive(true);
        Ok(value)
    };
    let session = opened.session.as_str();
    Ok([
        line(format!("{SESSION_COOKIE}={session}; Path=/v1/; HttpOnly; SameSite=Strict{secure}"))?,
        line(format!("{}={}; Path=/; SameSite=Strict{secure}", csrf::COOKIE, opened.csrf.as_str()))?,
    ])
}

/// The operations of this module.
pub(crate) fn operations(sessions: &Sessions) -> Vec<Operation> {
    vec![sign_out(sessions), sign_out_everywhere(sessions)]
}

fn sign_out(sessions: &Sessions) -> Operation {
    let sessions = sessions.clone();
    let gate = Gate::Open("whoever holds the cookie may drop it, and nothing is disclosed");
    Operation::new("DeleteAuthSession", Method::DELETE, "/v1/auth/whoami", gate)
        .scheme(Scheme::OperatorIfAny)
        .words(
            TAG,
            "Sign out of this browser",
            "Ends the session of the cookie, if there is one, and clears both cookies. An API token in the cookie is \
             cleared and stays valid. Always 204.",
        )
        .answers_empty(204, "Signed out.")
        .always_sets(SET_COOKIE, CLEAR_SESSION)
        .always_sets(SET_COOKIE, CLEAR_CSRF)
        .handler(move |call| {
            let sessions = sessions.clone();
            async move {
                if let Some(cookie) = cookies::cookie(&call.headers, SESSION_COOKIE) {
                    let ended = sessions.end(cookie, |subject| Actor::acting_for(&call, subject)).await;
                    // The browser forgets the cookie in any case; a session that could not be ended runs out.
                    if let Err(fault) = ended {
                        tracing::warn!(cause = ?fault, "a session was not ended at sign-out");
                    }
                }
                Ok(Reply::empty(StatusCode::NO_CONTENT).no_store())
            }
        })
}

fn sign_out_everywhere(sessions: &Sessions) -> Operation {
    let sessions = sessions.clone();
    let gate = Gate::AnyCaller("sessions are the caller's own");
    Operation::new("PostAuthSignOutGlobal", Method::POST, "/v1/auth/sign-out/global", gate)
        .words(
            TAG,
            "Sign out everywhere",
            "Ends every session of the calling person, and the access tokens of devices that stem from them. API tokens \
             stay. For people with a browser session: a token that leaked must not end its owner's sessions.",
        )
        .answers_empty(204, "No session is left.")
        .problems(&[Code::ApiTokenNotAllowed])
        .always_sets(SET_COOKIE, CLEAR_SESSION)
        .always_sets(SET_COOKIE, CLEAR_CSRF)
        .handler(move |call| {
            let sessions = sessions.clone();
            async move {
                interactive(&call)?;
                sessions.end_all(&Actor::of(&call)?, call.principal()?.scope).await?;
                Ok(Reply::empty(StatusCode::NO_CONTENT).no_store())
            }
        })
}

/// Refuses a caller who did not come by a browser session.
///
/// # Errors
/// 403 `api_token_not_allowed`.
pub(crate) fn interactive(call: &Call) -> Result<(), Problem> {
    match call.caller()? {
        Authenticated::Operator { credential: Credential::Session(_), .. } => Ok(()),
        Authenticated::Operator { .. } | Authenticated::Node(_) => {
            Err(Problem::new(Code::ApiTokenNotAllowed, "This needs a browser session; a token may not do it."))
        }
    }
}
