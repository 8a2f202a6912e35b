//! The kernel's table of TCP connections over IPv4. It shows what no program can say of itself: that a connection waits to be accepted.

/// A connection at a local port, seen from that port.
pub struct Connection {
    state: String,
    /// Bytes that have come and were not read.
    unread: u64,
    /// The inode of the socket. A connection that no program has accepted has none.
    inode: u64,
}

impl Connection {
    pub fn is_established(&self) -> bool {
        self.state == "01"
    }

    /// Whether the other side has closed it and this side has not.
    pub fn is_closed_by_peer(&self) -> bool {
        self.state == "08"
    }

    /// Whether the other side has sent something, and no program has accepted the connection.
    pub fn waits_to_be_accepted(&self) -> bool {
        self.is_established() && self.inode == 0 && self.unread > 0
    }
}

/// The connections at a local port.
pub fn connections(port: u16) -> Vec<Connection> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table of connections");
    let local = format!(":{port:04X}");
    table.lines().skip(1).filter_map(|line| connection(line, &local)).collect()
}

/// The columns: `sl local_address rem_address st tx_queue:rx_queue tr:tm->when retrnsmt uid timeout inode`.
fn connection(line: &str, local: &str) -> Option<Connection> {
    let columns: Vec<&str> = line.split_whitespace().collect();
    columns.get(1)?.ends_with(local).then_some(())?;
    let (_, unread) = columns.get(4)?.split_once(':')?;
    Some(Connection {
        state: (*columns.get(3)?).to_owned(),
        unread: u64::from_str_radix(unread, 16).ok()?,
        inode: columns.get(9)?.parse().ok()?,
    })
}
