//! Test that generates and checks the plugins in `integrations/` and the two marketplace files: entries that `thrum
//! setup` writes into a worktree, packaged for programs that install plugins.
//!
//! A plugin contains the hooks and the MCP server from the table that `setup` uses; permissions and instructions are
//! left out. The hooks are marked as a plugin's (`--plugin`), because `setup` may have written its hooks as well, and
//! only one of the two may deliver the mail. The server is marked too (`THRUM_PLUGIN`), so that it offers nothing
//! without a mailbox. Shell commands exit with 0 if `thrum` is not installed.
//!
//! After a change of the table: `UPDATE_DOCS=1 cargo test -p thrum --bin thrum plugins::`

use std::{fs, path::Path};

use serde_json::{Map, Value, json};

use super::{document::Part, runtime};
use crate::hook::host::Host;

const DESCRIPTION: &str = "One durable mailbox for coding agents, across sessions, worktrees and machines: briefed when a session starts, \
                           new mail with the next prompt, unread mail before a turn ends";

/// Returns the hooks and the MCP server of a program in the form of its plugin.
fn parts(host: Host) -> (Value, Value) {
    let (mut hooks, mut server) = (Map::new(), Value::Null);
    for part in (runtime(host).targets)().into_iter().flat_map(|target| target.parts) {
        match part {
            Part::Element(path, mut value) if path[0] == "hooks" => {
                of_plugin(&mut value);
                hooks.entry(path[1]).or_insert_with(|| json!([])).as_array_mut().unwrap().push(value);
            }
            Part::Member(path, value) if path == ["mcpServers", "thrum"] => server = value,
            Part::Table("mcp_servers.thrum", lines) => server = of_toml(lines),
            _ => {}
        }
    }
    server["env"] = json!({"THRUM_PLUGIN": "1"});
    (json!({"hooks": hooks}), json!({"mcpServers": {"thrum": server}}))
}

/// Converts a TOML table of strings and lists of strings to JSON.
fn of_toml(lines: &str) -> Value {
    let document: toml_edit::DocumentMut = lines.parse().unwrap();
    let value = |item: &toml_edit::Item| match item.as_array() {
        Some(words) => words.iter().filter_map(|word| word.as_str()).collect::<Vec<_>>().into(),
        None => item.as_str().into(),
    };
    document.iter().map(|(name, item)| (name.to_owned(), value(item))).collect::<Map<_, _>>().into()
}

/// Marks a hook's command as a plugin's. A shell line also gets a check that exits with 0 if there is no `thrum`.
fn of_plugin(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(of_plugin),
        Value::Object(fields) if fields.get("args").is_some() => {
            fields["args"].as_array_mut().unwrap().push("--plugin".into())
        }
        Value::Object(fields) => {
            if let Some(Value::String(command)) = fields.get_mut("command") {
                *command = format!("command -v thrum >/dev/null 2>&1 || exit 0; {command} --plugin");
            }
            fields.values_mut().for_each(of_plugin);
        }
        _ => {}
    }
}

fn files() -> Vec<(&'static str, Value)> {
    let version = env!("CARGO_PKG_VERSION");
    let manifest = json!({
        "name": "thrum", "version": version, "description": DESCRIPTION, "license": "MIT", "author": {"name": "Thrum"},
        "keywords": ["agents", "mail", "mcp"],
    });
    let (claude_hooks, claude_server) = parts(Host::Claude);
    let (codex_hooks, codex_server) = parts(Host::Codex);
    let mut codex = manifest.clone();
    codex["hooks"] = "./hooks/hooks.json".into();
    codex["mcpServers"] = "./.mcp.json".into();
    codex["interface"] = json!({
        "displayName": "Thrum", "shortDescription": "A mailbox for coding agents", "longDescription": DESCRIPTION,
        "developerName": "Thrum", "category": "Productivity",
    });
    vec![
        (
            ".claude-plugin/marketplace.json",
            json!({
                "name": "thrum", "owner": {"name": "Thrum"}, "metadata": {"description": DESCRIPTION},
                "plugins": [{"name": "thrum", "source": "./integrations/claude-code", "description": DESCRIPTION, "version": version}],
            }),
        ),
        ("integrations/claude-code/.claude-plugin/plugin.json", manifest),
        ("integrations/claude-code/hooks/hooks.json", claude_hooks),
        ("integrations/claude-code/.mcp.json", claude_server),
        (
            ".agents/plugins/marketplace.json",
            json!({
                "name": "thrum", "interface": {"displayName": "Thrum"},
                "plugins": [{
                    "name": "thrum", "source": {"source": "local", "path": "./integrations/codex"},
                    "policy": {"installation": "AVAILABLE", "authentication": "ON_INSTALL"}, "category": "Productivity",
                }],
            }),
        ),
        ("integrations/codex/.codex-plugin/plugin.json", codex),
        ("integrations/codex/hooks/hooks.json", codex_hooks),
        ("integrations/codex/.mcp.json", codex_server),
    ]
}

#[test]
fn the_plugin_files_are_up_to_date() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    for (file, value) in files() {
        let (path, text) = (root.join(file), serde_json::to_string_pretty(&value).unwrap() + "\n");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, &text).unwrap();
        }
        let is = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(is, text, "{file} is out of date; run `UPDATE_DOCS=1 cargo test -p thrum --bin thrum plugins::`");
    }
}
