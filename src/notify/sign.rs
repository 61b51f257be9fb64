//! Signatures: Standard Webhooks 1.0, symmetric (`v1`).

use aws_lc_rs::hmac::{HMAC_SHA256, Key, sign};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::secret::Secret;

/// The keys of one receiver; each of them signs.
pub(super) struct Keys(Vec<Key>);

impl Keys {
    /// Keys as they are written, `whsec_<base64>`; what is none is left out: the configuration
    /// has refused it.
    pub(super) fn new(secrets: &[Secret]) -> Self {
        let key = |secret: &Secret| {
            let encoded = secret.expose().strip_prefix("whsec_")?;
            Some(Key::new(HMAC_SHA256, &STANDARD.decode(encoded).ok()?))
        };
        Self(secrets.iter().filter_map(key).collect())
    }

    /// The header `webhook-signature`: `v1,<base64>` of each key, with spaces between; `None`
    /// without a key.
    pub(super) fn signature(&self, id: &str, timestamp: u64, body: &[u8]) -> Option<String> {
        let mut content = format!("{id}.{timestamp}.").into_bytes();
        content.extend_from_slice(body);
        let one = |key: &Key| format!("v1,{}", STANDARD.encode(sign(key, &content)));
        let all: Vec<_> = self.0.iter().map(one).collect();
        (!all.is_empty()).then(|| all.join(" "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;
    const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

    fn keys(secrets: &[&str]) -> Keys {
        let secrets: Vec<_> = secrets.iter().map(|text| Secret::new((*text).to_owned())).collect();
        Keys::new(&secrets)
    }

    #[test]
    fn the_published_example_of_standard_webhooks_has_its_published_signature() {
        let signature = keys(&[SECRET]).signature(ID, 1_614_265_330, BODY);
        assert_eq!(signature.as_deref(), Some(SIGNATURE));
    }

    #[test]
    fn id_time_and_body_are_all_signed_and_each_key_signs() {
        let one = keys(&[SECRET]);
        for (id, time, body) in [
            ("msg_other", 1_614_265_330, BODY),
            (ID, 1_614_265_331, BODY),
            (ID, 1_614_265_330, &b"{}"[..]),
        ] {
            assert_ne!(one.signature(id, time, body).as_deref(), Some(SIGNATURE));
        }
        let other = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
        let both = keys(&[other, SECRET]).signature(ID, 1_614_265_330, BODY).unwrap();
        let parts: Vec<_> = both.split(' ').collect();
        assert_eq!((parts.len(), parts[1]), (2, SIGNATURE));
        assert_eq!(keys(&[]).signature(ID, 1, BODY), None);
    }
}
