//! What a session counts.

/// Counters and sizes of one session.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Statistics {
    /// Its first port.
    pub port: u16,
    /// Users that are logged in.
    pub users: u64,
    /// Connections that have said who they are.
    pub connections: u64,
    /// Nodes of the scene.
    pub nodes: u64,
    /// Bytes of the nodes and of their changes.
    pub node_bytes: u64,
    /// Nodes that somebody has locked.
    pub locks: u64,
    /// Bytes that wait for clients.
    pub queued_bytes: u64,
    /// Messages received, since the start.
    pub received: u64,
    /// Messages queued for clients.
    pub sent: u64,
    /// Messages that a newer one has replaced in a slow client's queue.
    pub coalesced: u64,
    /// Logins that have ended well.
    pub logins: u64,
    /// Logins that have not.
    pub refused_logins: u64,
    /// Logins among them of clients that the session's users could not understand.
    pub refused_generations: u64,
    /// Messages refused because a pickle could run something, or is none.
    pub refused_pickles: u64,
    /// Messages refused that nobody may send who has not logged in.
    pub refused_strangers: u64,
    /// Messages refused that only an administrator may send, or that speak for somebody else.
    pub refused_rights: u64,
    /// Messages refused for what they hold, or because it is not the time for them.
    pub refused_messages: u64,
    /// Connections refused because another one has their identity, or because there are too many.
    pub refused_connections: u64,
    /// Clients let go because they did not read.
    pub overfull: u64,
    /// Clients let go because nothing was heard of them.
    pub lost: u64,
    /// Times that changes of a node were folded into it.
    pub folded: u64,
    /// Times that they could not be.
    pub unfolded: u64,
    /// Times that the log was too late for messages to wait for it.
    pub log_late: u64,
}

/// One quantity: its name, what it is, whether it only grows, and its value.
pub type Column = (&'static str, &'static str, bool, fn(&Statistics) -> u64);

/// All quantities that metrics tell of.
pub const COLUMNS: &[Column] = &[
    (
        "collab_users",
        "Users of collaborative sessions.",
        false,
        |s| s.users,
    ),
    (
        "collab_connections",
        "Connections of collaborative sessions.",
        false,
        |s| s.connections,
    ),
    (
        "collab_nodes",
        "Nodes of collaborative sessions.",
        false,
        |s| s.nodes,
    ),
    (
        "collab_node_bytes",
        "Bytes of nodes of collaborative sessions.",
        false,
        |s| s.node_bytes,
    ),
    (
        "collab_locks",
        "Locked nodes of collaborative sessions.",
        false,
        |s| s.locks,
    ),
    (
        "collab_queued_bytes",
        "Bytes that wait for clients of collaborative sessions.",
        false,
        |s| s.queued_bytes,
    ),
    (
        "collab_received_total",
        "Messages received in collaborative sessions.",
        true,
        |s| s.received,
    ),
    (
        "collab_sent_total",
        "Messages queued in collaborative sessions.",
        true,
        |s| s.sent,
    ),
    (
        "collab_coalesced_total",
        "Messages replaced by newer ones in queues of slow clients.",
        true,
        |s| s.coalesced,
    ),
    (
        "collab_logins_total",
        "Logins to collaborative sessions.",
        true,
        |s| s.logins,
    ),
    (
        "collab_refused_logins_total",
        "Refused logins to collaborative sessions.",
        true,
        |s| s.refused_logins,
    ),
    (
        "collab_refused_generations_total",
        "Refused logins of clients whose messages the session's users could not understand.",
        true,
        |s| s.refused_generations,
    ),
    (
        "collab_refused_pickles_total",
        "Messages refused for their pickles.",
        true,
        |s| s.refused_pickles,
    ),
    (
        "collab_refused_strangers_total",
        "Messages refused before a login.",
        true,
        |s| s.refused_strangers,
    ),
    (
        "collab_refused_rights_total",
        "Messages refused for want of rights.",
        true,
        |s| s.refused_rights,
    ),
    (
        "collab_refused_messages_total",
        "Messages refused for what they hold.",
        true,
        |s| s.refused_messages,
    ),
    (
        "collab_refused_connections_total",
        "Connections refused by collaborative sessions.",
        true,
        |s| s.refused_connections,
    ),
    (
        "collab_overfull_total",
        "Clients let go because they did not read.",
        true,
        |s| s.overfull,
    ),
    (
        "collab_lost_total",
        "Clients let go because they were silent.",
        true,
        |s| s.lost,
    ),
    (
        "collab_folded_total",
        "Times that changes of a node were folded into it.",
        true,
        |s| s.folded,
    ),
    (
        "collab_unfolded_total",
        "Times that changes of a node could not be folded.",
        true,
        |s| s.unfolded,
    ),
    (
        "collab_log_late_total",
        "Times that a session's log was too late for messages to wait for it.",
        true,
        |s| s.log_late,
    ),
];
