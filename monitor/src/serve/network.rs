//! The listener on the network: TLS always, so many connections and so many new ones a second, of each address only some, and
//! each with little time to show who it is. It has a thread of its own.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::access::{Call, Caller};
use super::http::{self, Peer};
use super::tls::{self, Material};
use super::{Api, Settings};

/// Connections at once, and of one address.
const CONNECTIONS_MAX: (usize, u32) = (64, 16);

/// New connections in a second, and of one address: each costs some milliseconds for its handshake.
const NEW_PER_SECOND: (u32, u32) = (50, 10);

/// Addresses that are told apart. Whoever has more than that of his own needs no second turn.
const NEIGHBOURS_MAX: usize = 1024;

/// How long a handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);

/// How often it is looked whether files have changed, and tried again to listen.
const LOOK: Duration = Duration::from_secs(10);

/// How long the thread that listens may take to end.
const END_TIME: Duration = Duration::from_secs(2);

/// The thread that listens. It ends when this is dropped.
pub struct Server {
    stop: watch::Sender<()>,
    /// Hangs up when it has ended.
    ended: mpsc::Receiver<Infallible>,
}

impl Server {
    /// Has it end, and waits until nobody is answered any more; tells whether it came to that.
    pub fn stop(self) -> bool {
        let Self { stop, ended } = self;
        drop(stop);
        matches!(ended.recv_timeout(END_TIME), Err(mpsc::RecvTimeoutError::Disconnected))
    }
}

/// What it begins with. Made before the daemon confines itself.
pub struct Listener {
    settings: Settings,
    address: SocketAddr,
    socket: Option<TcpListener>,
    material: Option<Arc<Material>>,
}

impl Listener {
    /// Listens, if the settings name an address. What does not work now is tried again and again, and is no reason not to
    /// watch: the problems are told.
    pub fn new(settings: &Settings) -> Option<(Self, Vec<String>)> {
        let address = settings.listen?;
        let mut new = Self { settings: settings.clone(), address, socket: None, material: None };
        let problems = new.prepare();
        Some((new, problems))
    }

    /// Gets what is not there yet.
    fn prepare(&mut self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.material.is_none() {
            match Material::read(&self.settings) {
                Ok(material) => self.material = Some(Arc::new(material)),
                Err(why) => problems.push(why),
            }
        }
        if self.socket.is_none() {
            let bound = bind(self.address).and_then(|socket| {
                socket.set_nonblocking(true)?;
                Ok(socket)
            });
            match bound {
                Ok(socket) => self.socket = Some(socket),
                Err(error) => problems.push(format!("{}: {error}", self.address)),
            }
        }
        problems
    }

    /// Where it listens, if it does yet: the port may have been chosen by the kernel.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.socket.as_ref()?.local_addr().ok()
    }

    /// Starts to answer.
    pub fn start(self, api: Arc<Api>) -> io::Result<Server> {
        let (stop, mut stopped) = watch::channel(());
        let (alive, ended) = mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("serve".to_owned()).spawn(move || {
            // SAFETY: no pointers. Whoever calls in crowds comes after the events; if that cannot be, nothing is lost.
            unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
            runtime.block_on(async {
                tokio::select! {
                    () = self.listen(api) => {}
                    _ = stopped.changed() => {}
                }
            });
            runtime.shutdown_background();
            drop(alive);
        })?;
        Ok(Server { stop, ended })
    }

    async fn listen(mut self, api: Arc<Api>) {
        loop {
            while self.socket.is_none() || self.material.is_none() {
                tokio::time::sleep(LOOK).await;
                for problem in self.prepare() {
                    log::warn!("the API does not listen: {problem}");
                }
            }
            let (Some(socket), Some(material)) = (self.socket.take(), self.material.clone()) else {
                continue;
            };
            let (address, socket) = (socket.local_addr().ok(), tokio::net::TcpListener::from_std(socket));
            match socket {
                Ok(socket) => {
                    *api.sources.listen.lock().unwrap_or_else(PoisonError::into_inner) = address;
                    self.accept(&socket, material, &api).await;
                }
                Err(error) => log::warn!("the API does not listen: {error}"),
            }
        }
    }

    /// Takes connections.
    async fn accept(&self, socket: &tokio::net::TcpListener, mut material: Arc<Material>, api: &Arc<Api>) {
        let crowd = Crowd::default();
        let mut rate = Rate::new(NEW_PER_SECOND.0, Instant::now());
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let accepted = tokio::select! {
                accepted = socket.accept() => accepted,
                _ = look.tick() => {
                    if material.is_stale(&self.settings) {
                        match Material::read(&self.settings) {
                            Ok(new) => {
                                log::info!("certificates and tokens of the API were read anew");
                                material = Arc::new(new);
                            }
                            Err(why) => log::warn!("certificates and tokens of the API stay as they were: {why}"),
                        }
                    }
                    continue;
                }
            };
            let (stream, from) = match accepted {
                Ok((stream, from)) => (stream, from.ip().to_canonical()),
                Err(error) => {
                    // No descriptors, say: others need them more.
                    log::debug!("a connection was not taken: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // In this order: who has had all that is his spends nothing of what is for all.
            let now = Instant::now();
            let place = crowd.enter(from, now).filter(|_| rate.take(now));
            let Some(place) = place else {
                api.calls.refuse("full");
                continue;
            };
            let (material, api) = (Arc::clone(&material), Arc::clone(api));
            tokio::spawn(async move {
                serve(stream, from, &material, &api).await;
                drop(place);
            });
        }
    }
}

/// Binds an address; all of IPv6, which is all of IPv4 too, is that alone on a kernel that has no IPv6.
fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address) {
        Err(error)
            if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
                && error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
        {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port()))
        }
        bound => bound,
    }
}

async fn serve(stream: TcpStream, from: IpAddr, material: &Material, api: &Api) {
    // Only makes it later, never wrong.
    let _ = stream.set_nodelay(true);
    let stream = match timeout(HANDSHAKE_TIME, material.acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            api.calls.refuse("handshake");
            let tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
            if let Some(rustls::Error::InvalidCertificate(_)) = tls {
                let refusal = Some("a certificate that is not accepted");
                let (method, path) = (String::new(), String::new());
                let call =
                    Call { caller: Caller::Nobody, from: Some(from), method, path, status: 0, refusal };
                api.calls.take(call, None);
            }
            return;
        }
        Err(_) => return api.calls.refuse("slow"),
    };
    let (_, session) = stream.get_ref();
    let certificate = session.peer_certificates().and_then(|chain| chain.first()).map(|certificate| {
        tls::subject(certificate).unwrap_or_else(|| "a certificate without a name".to_owned())
    });
    http::serve(stream, Peer::Network { from, certificate }, &material.tokens, api).await;
}

/// What is one neighbour: of IPv6 a whole network of 64 bits, since whoever has one address of it has them all.
pub fn neighbourhood(from: IpAddr) -> IpAddr {
    match from.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from(u128::from(address) >> 64 << 64).into(),
        v4 => v4,
    }
}

/// Those who are there, and those who were a moment ago.
struct Crowd {
    all: Arc<Semaphore>,
    of: Neighbours,
}

type Neighbours = Arc<Mutex<HashMap<IpAddr, Neighbour>>>;

struct Neighbour {
    /// Connections that he has.
    places: u32,
    new: Rate,
}

/// A place among them, which is free again when this is dropped.
struct Place {
    from: IpAddr,
    of: Neighbours,
    _permit: OwnedSemaphorePermit,
}

impl Default for Crowd {
    fn default() -> Self {
        Self { all: Arc::new(Semaphore::new(CONNECTIONS_MAX.0)), of: Arc::default() }
    }
}

impl Crowd {
    fn enter(&self, from: IpAddr, now: Instant) -> Option<Place> {
        let from = neighbourhood(from);
        let permit = Arc::clone(&self.all).try_acquire_owned().ok()?;
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.len() >= NEIGHBOURS_MAX {
            of.retain(|_, neighbour| neighbour.places > 0);
        }
        let neighbour =
            of.entry(from).or_insert_with(|| Neighbour { places: 0, new: Rate::new(NEW_PER_SECOND.1, now) });
        if neighbour.places >= CONNECTIONS_MAX.1 || !neighbour.new.take(now) {
            return None;
        }
        neighbour.places += 1;
        drop(of);
        Some(Place { from, of: Arc::clone(&self.of), _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        // How fast he comes stays known.
        if let Some(neighbour) = of.get_mut(&self.from) {
            neighbour.places -= 1;
        }
    }
}

/// So many in a second, and no more saved up than that.
struct Rate {
    per_second: f64,
    left: f64,
    at: Instant,
}

impl Rate {
    fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second: per_second.into(), left: per_second.into(), at: now }
    }

    fn take(&mut self, now: Instant) -> bool {
        let new = (now - self.at).as_secs_f64() * self.per_second;
        (self.left, self.at) = ((self.left + new).min(self.per_second), now);
        let has_one = self.left >= 1.0;
        if has_one {
            self.left -= 1.0;
        }
        has_one
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::identity::Providers;

    #[test]
    fn server_that_was_stopped_has_let_go_of_the_api() {
        let folder = tempfile::tempdir().unwrap();
        let (sources, _log) = crate::serve::testing::sources(folder.path());
        let calls = Arc::clone(&sources.calls);
        let providers = Providers::new(&Default::default(), &Default::default(), || Box::new(|_| {}));
        let api = Arc::new(Api { sources, calls, providers });
        let settings = Settings { listen: Some(([127, 0, 0, 1], 0).into()), ..Settings::default() };
        let (listener, _problems) = Listener::new(&settings).unwrap();
        let server = listener.start(Arc::clone(&api)).unwrap();
        assert!(server.stop());
        assert_eq!(Arc::strong_count(&api), 1);
    }

    #[test]
    fn crowd_of_one_address_leaves_places_for_others_and_places_are_free_again() {
        let (crowd, mut now) = (Crowd::default(), Instant::now());
        let one = IpAddr::from([10, 0, 0, 1]);
        let mut places = Vec::new();
        for last in 1..=4 {
            let from = IpAddr::from([10, 0, 0, last]);
            let before = places.len();
            for _ in 0..2 {
                places.extend(std::iter::from_fn(|| crowd.enter(from, now)));
                now += Duration::from_secs(1);
            }
            assert_eq!(places.len() - before, CONNECTIONS_MAX.1 as usize);
        }
        assert_eq!(places.len(), CONNECTIONS_MAX.0);
        drop(places);
        assert!(crowd.enter(one, now).is_some());
    }

    #[test]
    fn one_who_hangs_up_and_comes_again_has_so_many_in_a_second_and_leaves_the_rest_to_others() {
        let (crowd, now) = (Crowd::default(), Instant::now());
        let mut rate = Rate::new(NEW_PER_SECOND.0, now);
        let mut come =
            |last: u8, now| crowd.enter([10, 0, 0, last].into(), now).is_some_and(|_| rate.take(now));
        let one = NEW_PER_SECOND.1 as usize;
        assert_eq!((0..1000).filter(|_| come(1, now)).count(), one);
        assert_eq!((0..1000).filter(|_| come(2, now)).count(), one);
        let later = now + Duration::from_millis(210);
        assert_eq!((0..1000).filter(|_| come(1, later)).count(), 2);
    }

    #[test]
    fn table_of_neighbours_is_bounded_and_keeps_those_who_are_there() {
        let (crowd, now) = (Crowd::default(), Instant::now());
        let place = crowd.enter([10, 0, 0, 1].into(), now).unwrap();
        for number in 0..3 * NEIGHBOURS_MAX as u32 {
            assert!(crowd.enter(Ipv4Addr::from(0x0b00_0000 + number).into(), now).is_some());
        }
        let of = crowd.of.lock().unwrap();
        assert!(of.len() <= NEIGHBOURS_MAX && of[&place.from].places == 1, "{}", of.len());
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_are_one_neighbour() {
        let of = |text: &str| neighbourhood(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2::1"), of("2001:db8:1:2:ffff::9"));
        assert_ne!(of("2001:db8:1:2::1"), of("2001:db8:1:3::1"));
        assert_eq!(of("::ffff:10.0.0.1"), "10.0.0.1");
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
    }

    #[test]
    fn new_connections_are_so_many_in_a_second() {
        let begin = Instant::now();
        let mut rate = Rate::new(NEW_PER_SECOND.0, begin);
        for (ms, expected) in [(0, 50), (110, 5), (100_000, 50)] {
            let now = begin + Duration::from_millis(ms);
            assert_eq!(std::iter::from_fn(|| rate.take(now).then_some(())).count(), expected);
        }
    }
}
