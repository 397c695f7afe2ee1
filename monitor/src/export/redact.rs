//! What of an address may be a secret, and texts without it. Services for chats and on-call duty give addresses to post to
//! whose path or query is all that it takes to post there; whoever answers may repeat it.

use url::Url;

use super::settings::Settings;

/// What stands where a secret stood.
pub const REDACTED: &str = "[redacted]";

/// Shorter secrets would be found everywhere.
const SECRET_MIN: usize = 4;

/// Words of an address that are shorter are none by themselves.
const WORD_MIN: usize = 16;

impl Settings {
    /// The address, for whoever may not use it.
    pub fn shown_address(&self) -> Url {
        let mut to = self.to.clone();
        if self.secret_path().is_some() {
            to.set_path(REDACTED);
        }
        if to.query().is_some() {
            to.set_query(Some(REDACTED));
        }
        to
    }

    /// What of the address may be a secret, as it is and word by word.
    pub fn secrets_in_address(&self) -> Vec<String> {
        let wholes = self.secret_path().into_iter().chain(self.to.query());
        let words = wholes.clone().flat_map(|whole| whole.split(['/', '&', '=']));
        wholes.chain(words.filter(|word| word.len() >= WORD_MIN)).map(str::to_owned).collect()
    }

    /// The path, if it is not only what the receiver's protocol wants.
    fn secret_path(&self) -> Option<&str> {
        let is_webhook = self.receiver.scheme.starts_with("webhook+");
        Some(self.to.path()).filter(|path| is_webhook && !path.trim_matches('/').is_empty())
    }
}

/// A text without these secrets.
pub fn redacted(mut text: String, secrets: &[String]) -> String {
    let mut secrets: Vec<&String> = secrets.iter().filter(|secret| secret.len() >= SECRET_MIN).collect();
    // One that is part of another must not break it up.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    for secret in secrets {
        if text.contains(secret.as_str()) {
            text = text.replace(secret.as_str(), REDACTED);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An exporter to that address.
    fn to(address: &str) -> Settings {
        crate::config::load(None, &[format!("export.x.to={address}")]).unwrap().exporters.remove(0)
    }

    #[test]
    fn path_of_a_webhook_and_any_query_are_not_shown() {
        for (address, shown) in [
            ("webhook+https://h:1/services/T0/B0/geheim", "webhook+https://h:1/[redacted]"),
            ("webhook+http://h/a?b=c", "webhook+http://h/[redacted]?[redacted]"),
            ("webhook+https://h/", "webhook+https://h/"),
            ("elastic+https://h/index", "elastic+https://h/index"),
            ("splunk+https://h?index=x", "splunk+https://h?[redacted]"),
            ("file:///var/log/x", "file:///var/log/x"),
        ] {
            assert_eq!(to(address).shown_address().as_str(), shown);
        }
    }

    #[test]
    fn what_is_repeated_of_an_address_is_redacted_whole_and_word_by_word() {
        let secrets = to("webhook+https://h/hooks/geheim-geheim-geheim?sig=streng-geheim-streng&v=1")
            .secrets_in_address();
        for (said, left) in [
            ("no /hooks/geheim-geheim-geheim here", "no [redacted] here"),
            ("no geheim-geheim-geheim among hooks", "no [redacted] among hooks"),
            ("sig=streng-geheim-streng&v=1", "[redacted]"),
            ("v=1, sig: streng-geheim-streng", "v=1, sig: [redacted]"),
        ] {
            assert_eq!(redacted(said.to_owned(), &secrets), left);
        }
    }
}
