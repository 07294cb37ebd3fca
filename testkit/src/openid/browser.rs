//! As much of a browser as a login form needs: cookies, redirects, forms.

use std::collections::BTreeMap;

use reqwest::header::{CONTENT_TYPE, COOKIE, LOCATION, SET_COOKIE};
use reqwest::{Client, Method, Response, StatusCode, Url};

/// More steps than any sign-in has.
const MAX_STEPS: usize = 20;

/// A browser at the provider; it keeps its cookies, so a second sign-in asks for no password.
#[derive(Debug)]
pub struct Browser {
    client: Client,
    cookies: BTreeMap<String, String>,
    home: String,
}

impl Browser {
    pub(super) fn new(home: &str) -> Self {
        // It speaks to loopback only, and reading the system's authorities is slow.
        let client =
            Client::builder().tls_certs_only([]).redirect(reqwest::redirect::Policy::none()).no_proxy().build();
        Self { client: client.expect("an http client"), cookies: BTreeMap::new(), home: home.to_owned() }
    }

    /// Follows an authorization URL, signs in as `login` and consents where asked. Returns where the provider sends the
    /// browser in the end, which is below the redirect URI; that address itself is not fetched.
    ///
    /// # Panics
    /// When the provider shows something else.
    pub async fn sign_in(&mut self, url: &str, login: &str) -> String {
        self.visit(url, Some(login)).await
    }

    /// Follows an authorization URL and cancels at the first form.
    ///
    /// # Panics
    /// As [`Browser::sign_in`].
    pub async fn cancel(&mut self, url: &str) -> String {
        self.visit(url, None).await
    }

    async fn visit(&mut self, url: &str, login: Option<&str>) -> String {
        let mut url: Url = url.parse().expect("an address");
        let mut form: Option<String> = None;
        for _ in 0..MAX_STEPS {
            let answer = self.send(&url, form.take()).await;
            if answer.status().is_redirection() {
                let place = answer.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                url = url.join(place.expect("a redirect with an address")).expect("an address");
                if url.as_str().starts_with(&self.home) {
                    return url.into();
                }
                continue;
            }
            let (status, page) = (answer.status(), answer.text().await.expect("a page"));
            assert_eq!(status, StatusCode::OK, "the provider answered {url} with: {page}");
            let Some(login) = login else {
                url = url.join(&between(&page, "href=\"", "/abort\"")).expect("an address");
                url.set_path(&format!("{}/abort", url.path()));
                continue;
            };
            form = Some(if page.contains("name=\"prompt\" value=\"login\"") {
                format!("prompt=login&login={login}&password=any")
            } else {
                "prompt=consent".to_owned()
            });
            url = url.join(&between(&page, "action=\"", "\"")).expect("an address");
        }
        panic!("the provider does not come to an end at {url}");
    }

    /// The body of an address, as text.
    pub(super) async fn text(&self, url: &str) -> String {
        let answer = self.client.get(url).send().await.expect("an answer of the openid provider");
        answer.text().await.expect("a body")
    }

    /// Puts a body at an address.
    pub(super) async fn put(&self, url: &str, body: String) {
        let answer = self.client.put(url).body(body).send().await.expect("an answer of the openid provider");
        assert!(answer.status().is_success(), "the openid provider took no change: {}", answer.status());
    }

    async fn send(&mut self, url: &Url, form: Option<String>) -> Response {
        let method = if form.is_some() { Method::POST } else { Method::GET };
        let cookies: Vec<_> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut request = self.client.request(method, url.clone()).header(COOKIE, cookies.join("; "));
        if let Some(form) = form {
            request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded").body(form);
        }
        let answer = request.send().await.expect("an answer of the openid provider");
        for cookie in answer.headers().get_all(SET_COOKIE) {
            let pair = cookie.to_str().expect("a cookie").split(';').next().unwrap_or_default();
            let (name, value) = pair.split_once('=').expect("a cookie has a name");
            // An empty value is how it is deleted.
            if value.is_empty() {
                self.cookies.remove(name);
            } else {
                self.cookies.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }
}

/// The text before `end`, back to the last `begin` before it; else the first text between the two.
fn between(page: &str, begin: &str, end: &str) -> String {
    let found = page.split(begin).skip(1).find_map(|rest| {
        let text = rest.split(end).next()?;
        (text.len() < rest.len() && !text.contains('"')).then(|| text.to_owned())
    });
    found.unwrap_or_else(|| panic!("no {begin}…{end} in: {page}"))
}
