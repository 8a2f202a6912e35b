//! The demo cluster. Its configuration is part of the program, so that it can be tried without writing a file.

use std::env;
use std::sync::Arc;

use super::cluster::{Config, DEFAULT_ENVIRONMENT, Origin, placeholders, server_defaults};
use super::credentials;
use super::fault::{ConfigErrors, Faults};
use super::reader::File;
use super::servers::{self, Taken};
use super::settings::{ModuleSettings, Settings};
use super::tree::Source;
use crate::auth::{MonitorToken, Secret};

/// The environment variable in which a demo master hands its token to the monitors that it starts.
pub const DEMO_TOKEN_VARIABLE: &str = "POMELO_DEMO_TOKEN";

const MASTER: &str = r#"{"id": "master-server-1", "host": "127.0.0.1", "port": 3005}"#;

const SERVERS: &str = r#"{
    "gate": [
        {"id": "gate-server-1", "host": "127.0.0.1", "port": 3014, "frontend": true, "command": "${exe} demo-server --port ${port}", "ready": "control"}
    ],
    "connector": [
        {"id": "connector-server-1", "host": "127.0.0.1", "port": 4050, "frontend": true, "command": "${exe} demo-server --port ${port}", "ready": "control"},
        {"id": "connector-server-2", "host": "127.0.0.1", "port": 4051, "frontend": true, "command": "${exe} demo-server --port ${port}", "ready": "control"}
    ],
    "chat": [
        {"id": "chat-server-1", "host": "127.0.0.1", "port": 6050, "command": "${exe} demo-server --port ${port}", "ready": "control"},
        {"id": "chat-server-2", "host": "127.0.0.1", "port": 6051, "command": "${exe} demo-server --port ${port}", "ready": "control"}
    ]
}"#;

const USERS: &str = r#"[
    {"id": "user-1", "username": "admin", "password": "admin", "level": 1},
    {"id": "user-2", "username": "monitor", "password": "monitor", "level": 2}
]"#;

impl Config {
    /// The demo cluster: a master on 127.0.0.1:3005, one gate, two connectors and two chat servers, each of which runs this very program
    /// as `demo-server`; users admin/admin (level 1) and monitor/monitor (level 2). Nothing is kept on disk.
    ///
    /// All types of server share one token: that of [`DEMO_TOKEN_VARIABLE`], otherwise a random one that each call makes anew. Whoever starts
    /// monitors passes it on in that variable.
    ///
    /// # Errors
    /// If the path of this program is not Unicode, because it stands in the commands.
    pub fn demo() -> Result<Self, ConfigErrors> {
        let faults = Faults::default();
        let mut taken = Taken::default();
        let mut settings = Settings::default();
        let here = env::temp_dir();
        settings.modules.dir = "pomelo-modules".into();
        // The tutorial's module can be dropped in as it is.
        let grants = vec!["cluster".to_owned(), "uplink".to_owned()];
        let tutorial = ModuleSettings { grants, ..ModuleSettings::unnamed(&settings.limits) };
        settings.module.insert("timeReport".to_owned(), tutorial);
        let text = |name: &str, text: &str| Source::new(format!("(demo) {name}").as_ref(), text.to_owned());

        let source = text("master.json", MASTER);
        let file = File { source: &source, faults: &faults };
        let master =
            source.json().ok().and_then(|node| Some(servers::master(file.table(&node, "the master")?, &mut taken)));

        let source = text("servers.json", SERVERS);
        let file = File { source: &source, faults: &faults };
        let extra = placeholders(DEFAULT_ENVIRONMENT, master.as_ref().map(servers::Master::address));
        let defaults = server_defaults(&settings, &extra, &here);
        let servers = source
            .json()
            .ok()
            .and_then(|node| Some(servers::servers(&file.table(&node, "servers.json")?, &mut taken, &defaults)));

        let source = text("adminUser.json", USERS);
        let users = source.json().ok().map(|node| credentials::users(File { source: &source, faults: &faults }, &node));

        let token = env::var(DEMO_TOKEN_VARIABLE).unwrap_or_else(|_| hex::encode(rand::random::<[u8; 24]>()));
        let tokens = ["master", "gate", "connector", "chat"]
            .map(|server_type| MonitorToken { server_type: server_type.to_owned(), token: Secret::new(&token) });
        faults.unless_any(master).map(|master| Config {
            origin: Origin::Demo,
            environment: DEFAULT_ENVIRONMENT.to_owned(),
            master,
            servers: servers.unwrap_or_default(),
            crons: Vec::new(),
            users: users.unwrap_or_default(),
            tokens: Some(tokens.into()),
            settings,
            texts: Arc::default(),
        })
    }
}
