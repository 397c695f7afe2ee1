//! The API server of Kubernetes, asked with the token of the pod's service account. The kubelet puts a new token in the
//! place of the old one long before that expires, and a new CA beside it: both are read when they are needed.

use std::io::Read as _;
use std::net::IpAddr;
use std::path::PathBuf;

use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Method, RequestBuilder, Response};
use serde::de::DeserializeOwned;
use serde_json::Value;
use url::Url;
use zeroize::Zeroizing;

use super::{Client, Error, ask, send};

/// Where the kubelet puts what a pod may prove itself by.
const FOLDER: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A token is no longer.
const TOKEN_MAX: u64 = 64 << 10;

/// Where the API server is, and who we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its address; by default the one that each pod is given.
    pub server: Option<Url>,
    /// Who signs its certificate.
    pub ca_file: PathBuf,
    /// Our token.
    pub token_file: PathBuf,
    /// Whether it is asked for the workload and the service account of each pod of this node.
    pub workloads: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let [ca_file, token_file] = ["ca.crt", "token"].map(|name| PathBuf::from(FOLDER).join(name));
        Self { server: None, ca_file, token_file, workloads: false }
    }
}

impl Settings {
    /// The address of the API server.
    fn address(&self) -> Result<Url, Error> {
        if let Some(server) = &self.server {
            return Ok(server.clone());
        }
        let variable = |name: &str| std::env::var(name).ok();
        let given = variable("KUBERNETES_SERVICE_HOST").zip(variable("KUBERNETES_SERVICE_PORT"));
        let Some((host, port)) = given else {
            let why = "this is no pod (no KUBERNETES_SERVICE_HOST), and `kubernetes.server` is not set";
            return Err(Error::Away(why.to_owned()));
        };
        let is_v6 = matches!(host.parse(), Ok(IpAddr::V6(_)));
        let host = if is_v6 { format!("[{host}]") } else { host };
        Url::parse(&format!("https://{host}:{port}")).map_err(|error| Error::Wrong(error.to_string()))
    }
}

/// What is asked for, as the API has it.
#[derive(Clone, Copy, Debug)]
pub struct Resource<'a> {
    /// The path, whose parts are escaped: some are names from elsewhere.
    pub path: &'a [&'a str],
    /// Names and values of the query.
    pub query: &'a [(&'a str, &'a str)],
    /// The form of the answer.
    pub accept: &'static str,
}

/// As JSON.
pub const JSON: &str = "application/json";

/// Only what an object is called and whose it is. Servers before 1.15 do not know that, and send all of it.
pub const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// The API server.
pub struct Server {
    settings: Settings,
    client: Client,
}

impl Server {
    /// The one that the settings name.
    pub fn new(settings: Settings) -> Self {
        let client = Client::new(Some(settings.ca_file.clone()));
        Self { settings, client }
    }

    /// What an object, or a list of them, says.
    pub async fn get<T: DeserializeOwned>(&self, resource: Resource<'_>) -> Result<T, Error> {
        ask(self.question(Method::GET, resource)?).await
    }

    /// An answer that is read bit by bit.
    pub async fn open(
        &self,
        resource: Resource<'_>,
        patience: std::time::Duration,
    ) -> Result<Response, Error> {
        send(self.question(Method::GET, resource)?.timeout(patience)).await
    }

    /// What the server has to say to an object that is not kept.
    pub async fn review<T: DeserializeOwned>(&self, path: &[&str], object: &Value) -> Result<T, Error> {
        let question = self.question(Method::POST, Resource { path, query: &[], accept: JSON })?;
        ask(question.header(CONTENT_TYPE, JSON).body(object.to_string())).await
    }

    fn question(&self, method: Method, resource: Resource<'_>) -> Result<RequestBuilder, Error> {
        let Resource { path, query, accept } = resource;
        let mut url = self.settings.address()?;
        let wrong = |()| Error::Wrong("`kubernetes.server` is no address of a server".to_owned());
        url.path_segments_mut().map_err(wrong)?.pop_if_empty().extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        let question = self.client.question(method, url)?;
        Ok(question.header(ACCEPT, accept).header(AUTHORIZATION, self.token()?))
    }

    fn token(&self) -> Result<HeaderValue, Error> {
        let path = &self.settings.token_file;
        let wrong = |why: &dyn std::fmt::Display| Error::Denied(format!("{}: {why}", path.display()));
        let mut text = Zeroizing::new(String::from("Bearer "));
        let file = std::fs::File::open(path).map_err(|error| wrong(&error))?;
        file.take(TOKEN_MAX).read_to_string(&mut text).map_err(|error| wrong(&error))?;
        let mut value = HeaderValue::from_str(text.trim_end()).map_err(|_| wrong(&"this is no token"))?;
        value.set_sensitive(true);
        Ok(value)
    }
}
