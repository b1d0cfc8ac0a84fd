//! A minimal client of an MCP server, for probing and measuring one.

use std::{process::Command, time::Duration};

use serde_json::{Value, json};

use crate::bounded::Talk;

/// A client after the handshake.
pub(crate) struct Client {
    talk: Talk,
    last_id: u64,
    /// The server's answer to the handshake.
    pub(crate) server: Value,
}

impl Client {
    /// Starts a server and performs the handshake. The whole conversation must end within the time `within`.
    ///
    /// # Errors
    /// A message, if the server cannot be started, hangs, has ended, or does not speak MCP.
    pub(crate) fn start(command: &mut Command, within: Duration) -> Result<Self, String> {
        let mut client = Self { talk: Talk::start(command, within)?, last_id: 0, server: Value::Null };
        let info = json!({"name": "thrum", "version": env!("CARGO_PKG_VERSION")});
        let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info});
        client.server = client.ask("initialize", &params)?.0;
        client.talk.write_line(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string())?;
        Ok(client)
    }

    /// Sends a request. Returns its result, and the size of the answer in bytes.
    ///
    /// # Errors
    /// A message, if the server rejects the request, hangs, has ended, or does not speak MCP.
    pub(crate) fn ask(&mut self, method: &str, params: &Value) -> Result<(Value, usize), String> {
        self.last_id += 1;
        self.talk.write_line(
            &json!({"jsonrpc": "2.0", "id": self.last_id, "method": method, "params": params}).to_string(),
        )?;
        loop {
            let line = self.talk.read_line()?;
            let Ok(mut message) = serde_json::from_str::<Value>(&line) else {
                return Err("its output is not JSON".to_owned());
            };
            // Skip notifications that come first.
            if message["id"] == self.last_id {
                return match message.get_mut("result").map(Value::take) {
                    Some(result) => Ok((result, line.len())),
                    None => Err(format!("it refuses: {}", message["error"]["message"].as_str().unwrap_or_default())),
                };
            }
        }
    }

    /// The process id of the server.
    pub(crate) fn pid(&self) -> u32 {
        self.talk.pid()
    }

    /// Closes the server's standard input. Returns `true` if the server then ends by itself before the deadline.
    pub(crate) fn end(self) -> bool {
        self.talk.end()
    }
}
