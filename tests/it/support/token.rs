//! A token server, as the distribution's token specification has it.
//!
//! Its tokens are real JWTs (ES256, the certificate in `x5c`), so that a real registry accepts
//! them too. Each one that it issued it also knows by heart, for the scripted registry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD, Engine as _};
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;

use super::fault::{Fault, Plan};
use super::server::{Reply, Request, Server};

/// The service that it speaks for; registries name it in their challenge.
pub(crate) const SERVICE: &str = "immutag-tests";
/// The issuer that its tokens name.
pub(crate) const ISSUER: &str = "immutag-tests-issuer";
const LIFE: Duration = Duration::from_secs(290);

/// A token server on 127.0.0.1 with users, and what each of them may pull.
pub(crate) struct TokenServer {
    server: Server,
    office: Arc<Office>,
    /// The certificate that its tokens carry, for a registry to trust.
    pub(crate) certificate_pem: String,
}

struct Office {
    key: EcdsaKeyPair,
    certificate: String,
    state: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    /// By name: `Authorization` value, and the repositories' prefixes that the user may pull.
    users: HashMap<String, (String, Vec<String>)>,
    /// Prefixes that everybody may pull.
    public: Vec<String>,
    /// Issued and not revoked, with the repositories that each opens.
    issued: HashMap<String, Vec<String>>,
    plan: Plan,
    log: Vec<Request>,
}

impl TokenServer {
    /// A plain one, or one behind TLS. It knows nobody yet.
    pub(crate) fn start(tls: Option<Arc<ServerConfig>>) -> Arc<Self> {
        let key = KeyPair::generate().expect("a P-256 key");
        let params = CertificateParams::new([]).expect("no names are valid names");
        let certificate = params.self_signed(&key).expect("the parameters are valid");
        let signing = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let signer = EcdsaKeyPair::from_pkcs8(signing, &key.serialize_der());
        let office = Arc::new(Office {
            key: signer.expect("a P-256 key"),
            certificate: BASE64_STANDARD.encode(certificate.der()),
            state: Mutex::default(),
        });
        let shared = office.clone();
        let server = Server::start(tls, move |request| shared.answer(request));
        Arc::new(Self { server, office, certificate_pem: certificate.pem() })
    }

    /// Lets `username` pull repositories that begin with one of `prefixes`.
    pub(crate) fn add_user(&self, username: &str, password: &str, prefixes: &[&str]) {
        let prefixes = prefixes.iter().map(ToString::to_string).collect();
        let entry = (basic(username, password), prefixes);
        self.books(|books| books.users.insert(username.to_owned(), entry));
    }

    /// Lets everybody pull repositories that begin so.
    pub(crate) fn allow_everybody(&self, prefix: &str) {
        self.books(|books| books.public.push(prefix.to_owned()));
    }

    /// Takes back every token, and what the user may.
    pub(crate) fn revoke(&self, username: &str) {
        self.books(|books| {
            books.issued.clear();
            books.users.remove(username);
        });
    }

    /// Takes back every token; users may ask for new ones.
    pub(crate) fn expire_tokens(&self) {
        self.books(|books| books.issued.clear());
    }

    /// The realm.
    pub(crate) fn realm(&self) -> String {
        format!("{}/token", self.server.url())
    }

    /// The challenge that points here.
    pub(crate) fn challenge(&self, repository: Option<&str>) -> String {
        let realm = self.realm();
        let scope = repository.map(|name| format!(r#",scope="repository:{name}:pull""#));
        format!(r#"Bearer realm="{realm}",service="{SERVICE}"{}"#, scope.unwrap_or_default())
    }

    /// Whether it issued this token for `repository` (`None`: at all).
    pub(crate) fn allows(&self, token: &str, repository: Option<&str>) -> bool {
        self.books(|books| {
            let opened = books.issued.get(token);
            opened
                .is_some_and(|names| repository.is_none_or(|name| names.iter().any(|n| n == name)))
        })
    }

    /// A token with these actions (`"pull,push"`), for the test itself.
    pub(crate) fn issue(&self, repository: &str, actions: &str) -> String {
        self.office.issue("the test", &[(repository, actions)])
    }

    /// Every request that came.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.books(|books| books.log.clone())
    }

    /// From now on this goes wrong with these requests (`"GET /token"`).
    pub(crate) fn fault(&self, request: &str, fault: Fault) {
        self.books(|books| books.plan.add(request, fault, usize::MAX));
    }

    /// From now on all goes well.
    pub(crate) fn clear_faults(&self) {
        self.books(|books| books.plan.clear());
    }

    fn books<T>(&self, change: impl FnOnce(&mut Books) -> T) -> T {
        change(&mut self.office.state.lock().expect("no holder panics"))
    }
}

/// `Basic …` for a user and password.
pub(crate) fn basic(username: &str, password: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("{username}:{password}")))
}

impl Office {
    fn answer(&self, request: &Request) -> Reply {
        let (faults, who) = {
            let mut books = self.state.lock().expect("no holder panics");
            books.log.push(request.clone());
            (books.plan.take(request), books.identify(request.fields.get("Authorization")))
        };
        let reply = match who {
            _ if request.path != "/token" => Reply::error(404, "UNKNOWN"),
            None => Reply::error(401, "UNAUTHORIZED"),
            Some((who, prefixes)) => self.grant(&who, &prefixes, &request.query),
        };
        faults.apply(reply)
    }

    /// As the specification says: what was asked for and may be had, be it nothing.
    fn grant(&self, who: &str, prefixes: &[String], query: &str) -> Reply {
        let query = query.replace("%3A", ":").replace("%3a", ":").replace("%2F", "/");
        let query = query.replace("%2f", "/").replace("%2C", ",").replace("%2c", ",");
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let scopes: Vec<&str> = pairs
            .filter(|(key, _)| *key == "scope")
            .flat_map(|(_, v)| v.split(['+', ' ']))
            .collect();
        let mut granted = Vec::new();
        for scope in scopes {
            let Some(rest) = scope.strip_prefix("repository:") else { continue };
            let Some((name, actions)) = rest.rsplit_once(':') else { continue };
            let may = prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()));
            if may && actions.split(',').any(|action| action == "pull") {
                granted.push((name, "pull"));
            }
        }
        let token = self.issue(who, &granted);
        let body = serde_json::json!({ "token": token, "expires_in": LIFE.as_secs() });
        Reply::new(200).body("application/json", body.to_string())
    }

    fn issue(&self, who: &str, grants: &[(&str, &str)]) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
        let access: Vec<_> = grants
            .iter()
            .map(|(name, actions)| {
                let actions: Vec<&str> = actions.split(',').collect();
                serde_json::json!({ "type": "repository", "name": name, "actions": actions })
            })
            .collect();
        let mut books = self.state.lock().expect("no holder panics");
        let claims = serde_json::json!({
            "iss": ISSUER, "sub": who, "aud": SERVICE, "access": access,
            "iat": now, "nbf": now - 10, "exp": now + LIFE.as_secs(),
            "jti": format!("{}-{}", books.log.len(), books.issued.len()),
        });
        let token = self.sign(&claims);
        let names = grants.iter().map(|(name, _)| (*name).to_owned()).collect();
        books.issued.insert(token.clone(), names);
        token
    }

    fn sign(&self, claims: &serde_json::Value) -> String {
        let header = serde_json::json!({ "typ": "JWT", "alg": "ES256", "x5c": [self.certificate] });
        let part = |json: &serde_json::Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
        let text = format!("{}.{}", part(&header), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), text.as_bytes());
        let signature = BASE64_URL_SAFE_NO_PAD.encode(signature.expect("a P-256 key signs"));
        format!("{text}.{signature}")
    }
}

impl Books {
    /// Who it is and what they may pull; `None` for a wrong password.
    fn identify(&self, authorization: Option<&str>) -> Option<(String, Vec<String>)> {
        let Some(authorization) = authorization else {
            return Some((String::from("anybody"), self.public.clone()));
        };
        let (name, (_, prefixes)) =
            self.users.iter().find(|(_, (expected, _))| expected == authorization)?;
        let all = prefixes.iter().chain(&self.public).cloned().collect();
        Some((name.clone(), all))
    }
}
