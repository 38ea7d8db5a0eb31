//! Network namespaces, one per node, which see each other over a bridge: several machines' network
//! on one machine.
//!
//! All names carry the number of this process, and everything is removed when [`Namespaces`] is
//! dropped. The bridge is in the namespace that the program was started in, so processes there are
//! reachable as well.

use std::{
    io,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

/// The network of the bridge.
const NETWORK: &str = "10.231.0.0/24";

/// The bridge's own address in it.
pub const BRIDGE: Ipv4Addr = Ipv4Addr::new(10, 231, 0, 1);

/// The namespaces, and the bridge between them.
#[derive(Debug)]
pub struct Namespaces {
    pid: u32,
    count: u8,
}

/// Runs a program to its end. An error contains what the program printed.
///
/// Blocks for some milliseconds. So it is for a program's main task, which occupies no worker of
/// the runtime.
fn run(program: &str, arguments: &[&str]) -> io::Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| io::Error::new(error.kind(), format!("`{program}`: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let command = arguments.join(" ");
    Err(io::Error::other(format!(
        "`{program} {command}`: {}",
        words.trim()
    )))
}

fn ip(arguments: &[&str]) -> io::Result<String> {
    run("ip", arguments)
}

/// Reports what is missing, and where to get it.
fn look_for_tools() -> io::Result<()> {
    for (program, package) in [("ip", "iproute2"), ("iptables", "iptables")] {
        if let Err(error) = run(program, &["-V"]) {
            return Err(io::Error::new(
                error.kind(),
                format!("{error}; `apt-get update && apt-get install -y {package}` installs it"),
            ));
        }
    }
    Ok(())
}

impl Namespaces {
    /// Makes `count` namespaces.
    ///
    /// # Errors
    /// If `ip` or `iptables` is missing, if this process may not make namespaces, or if their
    /// network is in use. Everything made until then is removed.
    pub fn make(count: u8) -> io::Result<Self> {
        look_for_tools()?;
        if !ip(&["-4", "-o", "address", "show", "to", NETWORK])?.is_empty() {
            return Err(io::Error::other(format!(
                "{NETWORK} is in use here, by another storm perhaps"
            )));
        }
        let made = Self {
            pid: std::process::id(),
            count,
        };
        made.make_all()?;
        Ok(made)
    }

    fn make_all(&self) -> io::Result<()> {
        let bridge = self.bridge();
        let may_not = |error: io::Error| {
            let text =
                "network namespaces and bridges take root, or CAP_SYS_ADMIN and CAP_NET_ADMIN";
            io::Error::new(error.kind(), format!("{error}; {text}"))
        };
        ip(&["link", "add", &bridge, "type", "bridge"]).map_err(may_not)?;
        let here = format!("{BRIDGE}/24");
        ip(&["address", "add", &here, "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for n in 0..self.count {
            let (name, outside, inside) = (self.name(n), self.outside(n), self.inside(n));
            ip(&["netns", "add", &name]).map_err(may_not)?;
            ip(&[
                "link", "add", &outside, "type", "veth", "peer", "name", &inside, "netns", &name,
            ])?;
            ip(&["link", "set", &outside, "master", &bridge, "up"])?;
            let address = format!("{}/24", Self::address(n));
            ip(&["-n", &name, "address", "add", &address, "dev", &inside])?;
            ip(&["-n", &name, "link", "set", &inside, "up"])?;
            ip(&["-n", &name, "link", "set", "lo", "up"])?;
            // Fail now and not in the middle of a storm: this process may lack the permission, or
            // the kernel the feature.
            self.iptables(n, &["-F"])?;
        }
        Ok(())
    }

    fn bridge(&self) -> String {
        format!("cs{}b", self.pid)
    }

    fn name(&self, n: u8) -> String {
        format!("casty-storm-{}-{n}", self.pid)
    }

    // An interface's name has at most 15 bytes.
    fn outside(&self, n: u8) -> String {
        format!("cs{}o{n}", self.pid)
    }

    fn inside(&self, n: u8) -> String {
        format!("cs{}i{n}", self.pid)
    }

    /// The address in the `n`th namespace.
    pub fn address(n: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 231, 0, 10 + n)
    }

    /// The command prefix that runs a program in the `n`th namespace.
    pub fn wrapper(&self, n: u8) -> Vec<String> {
        ["ip", "netns", "exec", &self.name(n)]
            .map(str::to_owned)
            .to_vec()
    }

    fn iptables(&self, n: u8, arguments: &[&str]) -> io::Result<String> {
        let name = self.name(n);
        let before: &[&str] = &["netns", "exec", &name, "iptables"];
        ip(&[before, arguments].concat())
    }

    /// Drops all packets from one namespace to another, from now on and silently. The other
    /// direction keeps working.
    ///
    /// # Errors
    /// If `iptables` fails.
    pub fn cut(&self, from: u8, to: u8) -> io::Result<()> {
        let source = Self::address(from).to_string();
        self.iptables(to, &["-A", "INPUT", "-s", &source, "-j", "DROP"])?;
        Ok(())
    }

    /// Stops dropping packets.
    ///
    /// # Errors
    /// If `iptables` fails.
    pub fn heal(&self) -> io::Result<()> {
        (0..self.count).try_for_each(|n| self.iptables(n, &["-F"]).map(drop))
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        // Some namespaces may not exist. Removing one interface of a pair removes both.
        for n in 0..self.count {
            let _ = ip(&["link", "delete", &self.outside(n)]);
            let _ = ip(&["netns", "delete", &self.name(n)]);
        }
        let _ = ip(&["link", "delete", &self.bridge()]);
        let left = ip(&["netns", "list"]).unwrap_or_default();
        if left.contains(&format!("casty-storm-{}-", self.pid)) {
            eprintln!("not all namespaces could be removed:\n{left}");
        }
    }
}
