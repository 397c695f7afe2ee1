//! JSON Web Tokens (RFC 7519) that are signed with a key of a set of public keys (RFC 7515, 7517, 7518, 8037), by RSA, ECDSA
//! or Ed25519 only: `none` and keys that both sides have are not known here, and a key is used for its own kind of signature
//! only (RFC 8725). Nothing of a token is believed before its signature was checked.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    self, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// A token is no longer.
const TOKEN_MAX: usize = 8 << 10;

/// Keys of a set that are kept.
const KEYS_MAX: usize = 64;

/// By how much clocks may differ.
const LEEWAY_S: i64 = 60;

/// What a token says, once its signature was checked.
pub type Claims = Map<String, Value>;

/// How a signature is checked.
enum Check {
    Rsa(&'static RsaParameters),
    Other(&'static dyn VerificationAlgorithm),
}

/// Signatures that are known: name, kind of key, curve.
const ALGORITHMS: &[(&str, &str, &str, Check)] = &[
    ("RS256", "RSA", "", Check::Rsa(&signature::RSA_PKCS1_2048_8192_SHA256)),
    ("RS384", "RSA", "", Check::Rsa(&signature::RSA_PKCS1_2048_8192_SHA384)),
    ("RS512", "RSA", "", Check::Rsa(&signature::RSA_PKCS1_2048_8192_SHA512)),
    ("PS256", "RSA", "", Check::Rsa(&signature::RSA_PSS_2048_8192_SHA256)),
    ("PS384", "RSA", "", Check::Rsa(&signature::RSA_PSS_2048_8192_SHA384)),
    ("PS512", "RSA", "", Check::Rsa(&signature::RSA_PSS_2048_8192_SHA512)),
    ("ES256", "EC", "P-256", Check::Other(&signature::ECDSA_P256_SHA256_FIXED)),
    ("ES384", "EC", "P-384", Check::Other(&signature::ECDSA_P384_SHA384_FIXED)),
    ("EdDSA", "OKP", "Ed25519", Check::Other(&signature::ED25519)),
    ("Ed25519", "OKP", "Ed25519", Check::Other(&signature::ED25519)),
];

/// Why a token is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// It is none, or of a kind that is not known.
    Malformed,
    /// It is signed by nothing that is believed.
    Algorithm,
    /// By a key that is not in the set: it may be a new one.
    UnknownKey,
    /// The signature is not its own.
    Signature,
    /// Somebody else made it.
    Issuer,
    /// It is for somebody else.
    Audience,
    /// It was good before.
    Expired,
    /// It will be good.
    NotYet,
    /// It does not say who it is, or not what is wanted besides.
    Claims,
}

impl Bad {
    /// For the log and for whoever calls.
    pub fn why(self) -> &'static str {
        match self {
            Bad::Malformed => "not a token that can be read",
            Bad::Algorithm => "a token whose signature is of a kind that is not taken",
            Bad::UnknownKey => "a token that is signed by an unknown key",
            Bad::Signature => "a token whose signature is wrong",
            Bad::Issuer => "a token of another issuer",
            Bad::Audience => "a token for another audience",
            Bad::Expired => "a token that has expired",
            Bad::NotYet => "a token that is not valid yet",
            Bad::Claims => "a token without the claims that are required",
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

/// A token's parts, of which nothing is believed yet.
struct Parts<'a> {
    header: Header,
    payload: Vec<u8>,
    signed: &'a str,
    signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    fn of(token: &'a str) -> Option<Self> {
        if token.len() > TOKEN_MAX {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, payload) = signed.split_once('.')?;
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
        let header: Header = serde_json::from_slice(&bytes(header)?).ok()?;
        Some(Self { header, payload: bytes(payload)?, signed, signature: bytes(signature)? })
    }
}

/// The issuer that a token names; it may lie.
pub fn claimed_issuer(token: &str) -> Option<String> {
    claimed(token, "iss")?.as_str().map(str::to_owned)
}

/// When a token says that it ends.
pub fn claimed_end(token: &str) -> Option<i64> {
    claimed(token, "exp")?.as_f64().map(|end| end as i64)
}

/// A claim of a token of which nothing else has to be right.
fn claimed(token: &str, name: &str) -> Option<Value> {
    let payload = URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Value>(&payload).ok()?.get_mut(name).map(Value::take)
}

/// A public key.
struct Key {
    id: Option<String>,
    /// The one algorithm that it is for, if it says so.
    algorithm: Option<String>,
    kind: String,
    curve: String,
    /// Modulus and exponent, or the point and nothing.
    parts: (Vec<u8>, Vec<u8>),
}

/// Public keys.
pub struct Keys(Vec<Key>);

/// A set of keys as it is written down.
#[derive(Deserialize)]
pub struct KeySet {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct WrittenKey {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    #[serde(default)]
    crv: String,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Keys {
    /// Those of a set that can check signatures; others are passed over.
    pub fn of(set: KeySet) -> Self {
        let keys = set.keys.into_iter().filter_map(|key| read_key(serde_json::from_value(key).ok()?));
        Self(keys.take(KEYS_MAX).collect())
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What a token says, if one of these keys has signed it.
    pub fn verify(&self, token: &str) -> Result<Claims, Bad> {
        let Parts { header, payload, signed, signature } = Parts::of(token).ok_or(Bad::Malformed)?;
        // Other kinds are signed by the same keys, and mean something else.
        let is_known_type = header.typ.is_none_or(|typ| {
            ["jwt", "at+jwt", "application/at+jwt"].contains(&typ.to_ascii_lowercase().as_str())
        });
        if header.crit.is_some() || !is_known_type {
            return Err(Bad::Malformed);
        }
        let known = ALGORITHMS.iter().find(|(name, ..)| *name == header.alg);
        let (name, kind, curve, check) = known.ok_or(Bad::Algorithm)?;
        let fits = |key: &&Key| {
            key.kind == *kind
                && key.curve == *curve
                && key.algorithm.as_ref().is_none_or(|of| of == name)
                && (header.kid.is_none() || key.id.is_none() || key.id == header.kid)
        };
        let mut fitting = self.0.iter().filter(fits).peekable();
        if fitting.peek().is_none() {
            return Err(Bad::UnknownKey);
        }
        let is_by = |Key { parts: (first, second), .. }: &Key| match check {
            Check::Rsa(parameters) => {
                let key = RsaPublicKeyComponents { n: first, e: second };
                key.verify(parameters, signed.as_bytes(), &signature)
            }
            Check::Other(algorithm) => {
                UnparsedPublicKey::new(*algorithm, first).verify(signed.as_bytes(), &signature)
            }
        };
        if !fitting.any(|key| is_by(key).is_ok()) {
            // Without a name of its key it may be by a new one.
            return Err(if header.kid.is_some() { Bad::Signature } else { Bad::UnknownKey });
        }
        serde_json::from_slice(&payload).map_err(|_| Bad::Malformed)
    }
}

fn read_key(key: WrittenKey) -> Option<Key> {
    let WrittenKey { kty, kid, alg, purpose, crv, n, e, x, y } = key;
    if purpose.is_some_and(|purpose| purpose != "sig") {
        return None;
    }
    let bytes = |text: Option<String>| URL_SAFE_NO_PAD.decode(text?).ok();
    let (curve, parts) = match kty.as_str() {
        "RSA" => {
            // Zeros in front would make the number another one to `ring`.
            let number = |text| Some(bytes(text)?.into_iter().skip_while(|byte| *byte == 0).collect());
            (String::new(), (number(n)?, number(e)?))
        }
        "EC" => {
            let size = if crv == "P-256" { 32 } else { 48 };
            let (x, y) = (bytes(x)?, bytes(y)?);
            if x.len() != size || y.len() != size {
                return None;
            }
            // SEC 1, section 2.3.3: not compressed.
            (crv, ([&[4], &x[..], &y[..]].concat(), Vec::new()))
        }
        "OKP" => (crv, (bytes(x)?, Vec::new())),
        _ => return None,
    };
    Some(Key { id: kid, algorithm: alg, kind: kty, curve, parts })
}

/// Whether a token is by that issuer, for that audience, and good at that time (in seconds since 1970).
pub fn check(claims: &Claims, issuer: &str, audience: &str, now_s: i64) -> Result<(), Bad> {
    if claims.get("iss").and_then(Value::as_str) != Some(issuer) {
        return Err(Bad::Issuer);
    }
    if !claims.get("aud").is_some_and(|value| has(value, audience)) {
        return Err(Bad::Audience);
    }
    // A time that is no number is none that can be kept to.
    let time = |name: &str| match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_f64().map(|time| Some(time as i64)).ok_or(Bad::Malformed),
    };
    if time("exp")?.ok_or(Bad::Claims)? <= now_s.saturating_sub(LEEWAY_S) {
        return Err(Bad::Expired);
    }
    let begins = [time("nbf")?, time("iat")?].into_iter().flatten().max();
    if begins.is_some_and(|begin| begin > now_s.saturating_add(LEEWAY_S)) {
        return Err(Bad::NotYet);
    }
    Ok(())
}

/// Whether a claim is that, or a list with that in it.
pub fn has(value: &Value, wanted: &str) -> bool {
    match value {
        Value::String(text) => text == wanted,
        Value::Bool(is) => wanted == if *is { "true" } else { "false" },
        Value::Number(number) => number.to_string() == wanted,
        Value::Array(items) => items.iter().any(|item| !item.is_array() && has(item, wanted)),
        Value::Null | Value::Object(_) => false,
    }
}

#[cfg(test)]
pub mod tests {
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
    use serde_json::json;

    use super::*;

    /// A key that signs, and how it is written down.
    pub enum Signer {
        Ec(EcdsaKeyPair),
        Ed(Ed25519KeyPair),
    }

    impl Signer {
        pub fn ec() -> Self {
            let random = SystemRandom::new();
            let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
            let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref(), &random);
            Self::Ec(key.unwrap())
        }

        pub fn ed() -> Self {
            let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
            Self::Ed(Ed25519KeyPair::from_pkcs8(key.as_ref()).unwrap())
        }

        pub fn public(&self, id: &str) -> Value {
            let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            match self {
                Self::Ec(key) => {
                    let point = key.public_key().as_ref();
                    json!({ "kty": "EC", "crv": "P-256", "kid": id, "x": text(&point[1..33]), "y": text(&point[33..]) })
                }
                Self::Ed(key) => {
                    json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "use": "sig", "x": text(key.public_key().as_ref()) })
                }
            }
        }

        pub fn sign(&self, header: &Value, claims: &Value) -> String {
            let [header, claims] = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
            let signed = format!("{header}.{claims}");
            let signature = match self {
                Self::Ec(key) => key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec(),
                Self::Ed(key) => key.sign(signed.as_bytes()).as_ref().to_vec(),
            };
            format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
        }
    }

    pub fn set(keys: &[Value]) -> Keys {
        Keys::of(serde_json::from_value(json!({ "keys": keys })).unwrap())
    }

    /// The example of RFC 7515, appendix A.2: a key of RSA, and a token that it has signed.
    const RSA_N: &str = "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ";
    const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw";

    #[test]
    fn example_of_the_standard_is_verified_and_no_change_of_it_is() {
        let keys = set(&[json!({ "kty": "RSA", "n": RSA_N, "e": "AQAB" })]);
        assert_eq!(keys.verify(RSA_TOKEN).unwrap()["iss"], "joe");
        for place in (0..RSA_TOKEN.len()).step_by(7) {
            let mut changed = RSA_TOKEN.as_bytes().to_vec();
            changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
            assert!(keys.verify(str::from_utf8(&changed).unwrap()).is_err(), "{place}");
        }
    }

    #[test]
    fn each_kind_of_key_verifies_its_own_tokens_only() {
        let (ec, ed) = (Signer::ec(), Signer::ed());
        let keys = set(&[ec.public("a"), ed.public("b")]);
        let claims = json!({ "sub": "x" });
        for (signer, header) in [
            (&ec, json!({ "alg": "ES256", "kid": "a", "typ": "JWT" })),
            (&ed, json!({ "alg": "EdDSA", "kid": "b", "typ": "at+jwt" })),
            (&ed, json!({ "alg": "EdDSA" })),
        ] {
            assert_eq!(keys.verify(&signer.sign(&header, &claims)).unwrap()["sub"], "x", "{header}");
        }
        for (signer, header, why) in [
            (&ec, json!({ "alg": "ES256", "kid": "c" }), Bad::UnknownKey),
            (&ec, json!({ "alg": "EdDSA", "kid": "a" }), Bad::UnknownKey),
            (&Signer::ec(), json!({ "alg": "ES256", "kid": "a" }), Bad::Signature),
            (&Signer::ed(), json!({ "alg": "EdDSA" }), Bad::UnknownKey),
            (&ec, json!({ "alg": "ES256", "kid": "a", "crit": ["b64"], "b64": false }), Bad::Malformed),
            (&ec, json!({ "alg": "ES256", "kid": "a", "typ": "logout+jwt" }), Bad::Malformed),
            (&ec, json!({ "alg": "none", "kid": "a" }), Bad::Algorithm),
            (&ec, json!({ "alg": "HS256", "kid": "a" }), Bad::Algorithm),
        ] {
            assert_eq!(keys.verify(&signer.sign(&header, &claims)), Err(why), "{header}");
        }
    }

    #[test]
    fn token_without_a_signature_or_signed_with_the_public_key_as_a_secret_is_refused() {
        let keys = set(&[json!({ "kty": "RSA", "n": RSA_N, "e": "AQAB", "kid": "k" })]);
        let text = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = text(json!({ "sub": "root" }));
        for alg in ["none", "None", "HS256", "hs256", "RS256\0", ""] {
            let signed = format!("{}.{claims}", text(json!({ "alg": alg, "kid": "k" })));
            assert_eq!(keys.verify(&format!("{signed}.")), Err(Bad::Algorithm), "{alg}");
            let secret =
                ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &URL_SAFE_NO_PAD.decode(RSA_N).unwrap());
            let signature = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&secret, signed.as_bytes()));
            assert_eq!(keys.verify(&format!("{signed}.{signature}")), Err(Bad::Algorithm), "{alg}");
        }
        // RS256 with an empty signature.
        let signed = format!("{}.{claims}", text(json!({ "alg": "RS256", "kid": "k" })));
        assert_eq!(keys.verify(&format!("{signed}.")), Err(Bad::Signature));
    }

    #[test]
    fn what_is_no_token_and_what_is_no_key_is_passed_over() {
        let keys = set(&[
            json!(7),
            json!({ "kty": "oct", "k": "AAAA" }),
            json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA" }),
            json!({ "kty": "RSA", "n": "!", "e": "AQAB" }),
            json!({ "kty": "RSA", "n": RSA_N, "e": "AQAB", "use": "enc" }),
        ]);
        assert!(keys.is_empty());
        for text in ["", ".", "..", "a.b.c", &"x".repeat(100_000), "e30.e30.e30", &RSA_TOKEN[..50]] {
            assert_eq!(keys.verify(text), Err(Bad::Malformed), "{text:.20}");
        }
        assert_eq!(set(&vec![Signer::ed().public("k"); 1000]).0.len(), KEYS_MAX);
        // Too deep for a header.
        let deep = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":{}", "[".repeat(4000)));
        assert_eq!(keys.verify(&format!("{deep}.e30.e30")), Err(Bad::Malformed));
    }

    #[test]
    fn claims_are_by_whom_for_whom_and_for_when_they_have_to_be() {
        let good = json!({ "iss": "i", "aud": ["x", "a"], "exp": 1000, "nbf": 900, "iat": 900 });
        let checked = |change: &dyn Fn(&mut Value), now_s| {
            let mut claims = good.clone();
            change(&mut claims);
            check(claims.as_object().unwrap(), "i", "a", now_s)
        };
        assert_eq!(checked(&|_| {}, 950), Ok(()));
        assert_eq!(checked(&|claims| claims["aud"] = "a".into(), 950), Ok(()));
        for (name, value, why) in [
            ("iss", json!("j"), Bad::Issuer),
            ("iss", json!(["i"]), Bad::Issuer),
            ("aud", json!(["x"]), Bad::Audience),
            ("aud", json!([["a"]]), Bad::Audience),
            ("aud", json!(null), Bad::Audience),
            ("exp", json!("1000"), Bad::Malformed),
            ("exp", json!(null), Bad::Malformed),
            ("nbf", json!("soon"), Bad::Malformed),
            ("nbf", json!(1e300), Bad::NotYet),
            ("exp", json!(-1e300), Bad::Expired),
        ] {
            assert_eq!(checked(&|claims| claims[name] = value.clone(), 950), Err(why), "{name} {value}");
        }
        let drop_it = |claims: &mut Value| drop(claims.as_object_mut().unwrap().remove("exp"));
        assert_eq!(checked(&drop_it, 950), Err(Bad::Claims));
        for (now_s, expected) in
            [(839, Err(Bad::NotYet)), (840, Ok(())), (1059, Ok(())), (1060, Err(Bad::Expired))]
        {
            assert_eq!(checked(&|_| {}, now_s), expected, "{now_s}");
        }
    }
}
