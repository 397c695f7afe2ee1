//! Who we are, as SASL has it: the messages of PLAIN (RFC 4616) and SCRAM (RFC 5802, RFC 7677). With SCRAM the password
//! never leaves, and the broker has to prove that it knows it, too.

use std::num::NonZeroU32;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::{digest, hmac, pbkdf2};

use crate::export::settings::Sasl;

/// What SCRAM asks for at least (RFC 7677).
const ITERATIONS_MIN: u32 = 4096;

/// A broker may not make us count for longer: some seconds.
const ITERATIONS_MAX: u32 = 1_000_000;

/// What a broker answered does not fit; for people.
pub type Wrong = &'static str;

/// The one message of PLAIN.
pub fn plain(user: &str, password: &str) -> Vec<u8> {
    format!("\0{user}\0{password}").into_bytes()
}

struct Algorithm {
    digest: &'static digest::Algorithm,
    hmac: hmac::Algorithm,
    pbkdf2: pbkdf2::Algorithm,
}

impl Algorithm {
    fn of(mechanism: Sasl) -> Self {
        match mechanism {
            Sasl::ScramSha256 => {
                Self { digest: &digest::SHA256, hmac: hmac::HMAC_SHA256, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA256 }
            }
            Sasl::ScramSha512 | Sasl::Plain => {
                Self { digest: &digest::SHA512, hmac: hmac::HMAC_SHA512, pbkdf2: pbkdf2::PBKDF2_HMAC_SHA512 }
            }
        }
    }

    fn sign(&self, key: &[u8], text: &str) -> hmac::Tag {
        hmac::sign(&hmac::Key::new(self.hmac, key), text.as_bytes())
    }
}

/// A conversation of SCRAM, as the client has it.
pub struct Scram {
    algorithm: Algorithm,
    nonce: String,
    /// The first message, without what says that channels are not bound.
    first: String,
}

impl Scram {
    /// With a nonce that nobody can guess.
    pub fn new(mechanism: Sasl, user: &str) -> Result<Self, Wrong> {
        let mut nonce = [0; 24];
        getrandom::fill(&mut nonce).map_err(|_| "this system has no random numbers")?;
        Ok(Self::with_nonce(mechanism, user, BASE64.encode(nonce)))
    }

    fn with_nonce(mechanism: Sasl, user: &str, nonce: String) -> Self {
        let user = user.replace('=', "=3D").replace(',', "=2C");
        let first = format!("n={user},r={nonce}");
        Self { algorithm: Algorithm::of(mechanism), nonce, first }
    }

    /// The first message.
    pub fn first(&self) -> Vec<u8> {
        format!("n,,{}", self.first).into_bytes()
    }

    /// The last message, to what the broker answered to the first; and what the broker has to prove.
    pub fn last(&self, answer: &[u8], password: &str) -> Result<(Vec<u8>, Proof), Wrong> {
        let answer = str::from_utf8(answer).map_err(|_| "its first message is no text")?;
        let nonce = part(answer, "r=").ok_or("its first message has no nonce")?;
        let salt = part(answer, "s=").and_then(|salt| BASE64.decode(salt).ok());
        let salt = salt.ok_or("its first message has no salt")?;
        let iterations = part(answer, "i=").and_then(|count| count.parse::<NonZeroU32>().ok());
        let iterations = iterations.ok_or("its first message has no number of iterations")?;
        if iterations.get() > ITERATIONS_MAX {
            return Err("it wants too many iterations");
        }
        // Whoever stands between us could guess passwords by what we answer.
        if iterations.get() < ITERATIONS_MIN {
            return Err("it wants too few iterations");
        }
        if answer.starts_with("m=") {
            return Err("it wants an extension that nobody knows");
        }
        if nonce.len() <= self.nonce.len() || !nonce.starts_with(&self.nonce) {
            return Err("its nonce does not follow from ours");
        }
        let Algorithm { digest, pbkdf2, .. } = self.algorithm;
        let mut salted = vec![0; digest.output_len()];
        pbkdf2::derive(pbkdf2, iterations, &salt, password.as_bytes(), &mut salted);
        let client_key = self.algorithm.sign(&salted, "Client Key");
        let stored_key = digest::digest(digest, client_key.as_ref());
        let unproved = format!("c=biws,r={nonce}");
        let said = format!("{},{answer},{unproved}", self.first);
        let signature = self.algorithm.sign(stored_key.as_ref(), &said);
        let proof: Vec<u8> =
            client_key.as_ref().iter().zip(signature.as_ref()).map(|(key, sign)| key ^ sign).collect();
        let server_key = self.algorithm.sign(&salted, "Server Key");
        let server_key = hmac::Key::new(self.algorithm.hmac, server_key.as_ref());
        Ok((format!("{unproved},p={}", BASE64.encode(proof)).into_bytes(), Proof { server_key, said }))
    }
}

/// What a broker has to prove.
pub struct Proof {
    server_key: hmac::Key,
    said: String,
}

impl Proof {
    /// Whether its last message does.
    pub fn check(&self, answer: &[u8]) -> Result<(), Wrong> {
        let signature =
            str::from_utf8(answer).ok().and_then(|answer| BASE64.decode(part(answer, "v=")?).ok());
        let signature = signature.ok_or("its last message has no signature")?;
        let verified = hmac::verify(&self.server_key, self.said.as_bytes(), &signature);
        verified.map_err(|_| "it does not know the password either")
    }
}

/// An attribute of a message.
fn part<'a>(message: &'a str, name: &str) -> Option<&'a str> {
    message.split(',').find_map(|part| part.strip_prefix(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of RFC 7677, section 3.
    #[test]
    fn conversation_is_the_one_of_the_standard() {
        let scram = Scram::with_nonce(Sasl::ScramSha256, "user", "rOprNGfwEbeRWgbNEkqO".into());
        assert_eq!(scram.first(), b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO");
        let answer =
            b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (last, proof) = scram.last(answer, "pencil").unwrap();
        let expected = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        assert_eq!(str::from_utf8(&last).unwrap(), expected);
        assert_eq!(proof.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="), Ok(()));
        assert!(proof.check(b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G5=").is_err());
        assert!(proof.check(b"e=other-error").is_err());
    }

    #[test]
    fn broker_that_does_not_keep_to_it_is_refused() {
        let scram = Scram::with_nonce(Sasl::ScramSha512, "a,b=c", "abc".into());
        assert_eq!(scram.first(), b"n,,n=a=2Cb=3Dc,r=abc");
        for answer in [
            &b""[..],
            b"\xff",
            b"r=abcd,s=AA==",
            b"r=abcd,s=AA==,i=0",
            b"r=abcd,s=AA==,i=4095",
            b"m=x,r=abcd,s=AA==,i=4096",
            b"r=abcd,s=AA==,i=4294967295",
            b"r=abc,s=AA==,i=4096",
            b"r=xabcd,s=AA==,i=4096",
            b"r=abcd,s=!,i=4096",
        ] {
            assert!(scram.last(answer, "p").is_err(), "{}", answer.escape_ascii());
        }
    }
}
