//! Batches made from a seed: valid in every odd way that JSON allows, and broken in as many.

/// A small generator of pseudo-random choices (xorshift64*), so that a failing seed is enough to reproduce a batch.
pub(super) struct Noise(u64);

impl Noise {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let drawn = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(drawn).unwrap() % bound
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }
}

use crate::telemetry::{Shape, Signal};

/// How often a record breaks a rule.
#[derive(Clone, Copy)]
pub(super) struct Quality {
    /// One value in so many is a bad one; zero for never.
    pub(super) bad_one_in: usize,
}

/// The text of a batch of up to `most` records.
pub(super) fn batch(noise: &mut Noise, signal: Signal, shape: Shape, most: usize, quality: Quality) -> String {
    let count = 1 + noise.below(most);
    let records: Vec<String> = (0..count).map(|_| record(noise, signal, shape, quality)).collect();
    match shape {
        Shape::Array => {
            let (open, close) = (space(noise, true), space(noise, true));
            format!("{open}[{}]{close}", records.join(","))
        }
        Shape::Ndjson => {
            let mut text = String::new();
            for (index, record) in records.iter().enumerate() {
                text += record;
                let last = index + 1 == count;
                if !last || noise.chance(2) {
                    text += noise.pick(&["\n", "\r\n", "\n\n", "\n \t\n"]);
                }
            }
            text
        }
    }
}

/// Changes a few bytes: replaced, inserted, removed, or a piece copied elsewhere.
pub(super) fn mutate(noise: &mut Noise, bytes: &mut Vec<u8>) {
    const PALETTE: &[u8] = b"\"\\{}[]:, \n\r\t0123456789eE+-.tfnulabTZ\x00\x1f\x7f\xff\xc3\xa9\xef\xbb\xbf/";
    for _ in 0..=noise.below(3) {
        let at = noise.below(bytes.len().max(1));
        let byte = PALETTE[noise.below(PALETTE.len())];
        match noise.below(4) {
            0 if at < bytes.len() => bytes[at] = byte,
            1 if at < bytes.len() => {
                bytes.remove(at);
            }
            2 if at < bytes.len() => {
                let end = (at + noise.below(60)).min(bytes.len());
                let piece = bytes[at..end].to_vec();
                let to = noise.below(bytes.len());
                bytes.splice(to..to, piece);
            }
            _ => bytes.insert(at, byte),
        }
    }
}

fn record(noise: &mut Noise, signal: Signal, shape: Shape, quality: Quality) -> String {
    let mut members = match signal {
        Signal::Metrics => metric(noise, quality),
        Signal::Logs => log(noise, quality),
        Signal::Audit => audit(noise, quality),
    };
    members.push(("timestamp", time(noise, quality)));
    if bad(noise, quality) {
        members.push((noise.pick(&["email", "Name", "", "name", "message", "action"]), string(noise, "x")));
    }
    if bad(noise, quality) {
        members.remove(noise.below(members.len()));
    }
    for index in (1..members.len()).rev() {
        members.swap(index, noise.below(index + 1));
    }
    let multiline = shape == Shape::Array;
    let mut text = space(noise, multiline) + "{";
    for (index, (name, value)) in members.iter().enumerate() {
        let comma = if index == 0 { "" } else { "," };
        let name = string(noise, name);
        let spaces: [String; 4] = std::array::from_fn(|_| space(noise, multiline));
        text += &format!("{comma}{}{name}{}:{}{value}{}", spaces[0], spaces[1], spaces[2], spaces[3]);
    }
    text + "}" + &space(noise, multiline)
}

fn metric(noise: &mut Noise, quality: Quality) -> Vec<(&'static str, String)> {
    let group = noise.pick(&["node_resources", "tunnel_health", "peer_latency", "agent_stats"]);
    let number = match bad(noise, quality) {
        true => noise.pick(&["1e999", "null", "\"1\"", "01", "1.", "-", "[1]"]),
        false => {
            noise.pick(&["0", "-0", "1", "-1.5", "1e3", "2.5E-7", "123456789012345678901", "0.1", "-1e-320", "7e+2"])
        }
    };
    let mut members = vec![
        ("group", token(noise, group, quality)),
        ("name", spoken(noise, &["cpu.load", "rtt_seconds", "größe", "x"], quality)),
        ("value", number.to_owned()),
    ];
    if noise.chance(2) {
        members.push(("labels", labels(noise, quality)));
    }
    members
}

fn labels(noise: &mut Noise, quality: Quality) -> String {
    let count = noise.below(5);
    let mut keys = vec!["peer_id", "workload", "a.b", "Email", "node_id", "__name__", "k\"", "", "ключ", "sub", "subj"];
    let mut labels = Vec::new();
    for _ in 0..count {
        let key = if bad(noise, quality) { keys[0] } else { keys.remove(noise.below(keys.len())) };
        let value = match bad(noise, quality) {
            true => noise.pick(&["1", "null", "{}", "\"\u{1}\""]).to_owned(),
            false => {
                let value = noise.pick(&["", "v", "a \"b\"", "\\", "日本", "line\nfeed"]);
                string(noise, value)
            }
        };
        labels.push(string(noise, key) + &space(noise, false) + ":" + &space(noise, false) + &value);
    }
    format!("{{{}{}}}", space(noise, false), labels.join(","))
}

fn log(noise: &mut Noise, quality: Quality) -> Vec<(&'static str, String)> {
    let severity = noise.pick(&["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"]);
    let message = match noise.below(60) {
        0 => "é".repeat(32_760 + noise.below(20)) + "tail\"",
        1 => "y".repeat(65_530 + noise.below(12)),
        _ => noise
            .pick(&["started", " ", "tab\there", "quote \" and \\", "\u{1f600} ok", "\u{0}", "multi\nline\r\n"])
            .to_owned(),
    };
    let message = if bad(noise, quality) {
        noise.pick(&["\"\"", "null", "\"\\ud800\"", "\"a\tb\""]).to_owned()
    } else {
        string(noise, &message)
    };
    let mut members = vec![("severity", token(noise, severity, quality)), ("message", message)];
    for name in ["unit", "hostname"] {
        if noise.chance(2) {
            let value = noise.pick(&["", "sshd.service", "/var/log/a\"b.log", "wirt-é"]);
            members.push((name, string(noise, value)));
        }
    }
    members
}

fn audit(noise: &mut Noise, quality: Quality) -> Vec<(&'static str, String)> {
    let source = noise.pick(&["auditd", "k8s"]);
    vec![
        ("source", token(noise, source, quality)),
        ("action", spoken(noise, &["login", "create pods", "exec \"sh\""], quality)),
        ("outcome", spoken(noise, &["success", "denied", "-"], quality)),
    ]
}

fn token(noise: &mut Noise, token: &str, quality: Quality) -> String {
    let token = if bad(noise, quality) { noise.pick(&["", "plexd", "INFO", "node"]) } else { token };
    string(noise, token)
}

fn spoken(noise: &mut Noise, choices: &[&str], quality: Quality) -> String {
    let long = "long".repeat(200);
    let text = if bad(noise, quality) { noise.pick(&["", " ", "\t\u{2003}", &long]) } else { noise.pick(choices) };
    string(noise, text)
}

fn time(noise: &mut Noise, quality: Quality) -> String {
    let good = [
        "2026-11-24T08:00:00Z",
        "2026-11-24t09:30:00.25+01:30",
        "1969-07-20T20:17:40.000000001-00:00",
        "2016-12-31T23:59:60Z",
    ];
    let broken = [
        "0001-01-01T00:00:00Z",
        "2026-11-24",
        "2026-02-30T00:00:00Z",
        "now",
        "2026-11-24T08:00:00",
        "2026-11-24 08:00:00Z",
    ];
    let text = if bad(noise, quality) { noise.pick(&broken) } else { noise.pick(&good) };
    string(noise, text)
}

/// A JSON string of these characters, some of them escaped without need.
fn string(noise: &mut Noise, characters: &str) -> String {
    let lavish = noise.chance(8) && characters.len() < 1_000;
    let mut json = String::from("\"");
    for character in characters.chars() {
        match character {
            _ if lavish && noise.chance(3) => {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    json += &if noise.chance(2) { format!("\\u{unit:04x}") } else { format!("\\u{unit:04X}") };
                }
            }
            '"' | '\\' => json.extend(['\\', character]),
            '/' if noise.chance(2) => json += "\\/",
            '\n' => json += "\\n",
            '\t' => json += "\\t",
            '\r' => json += "\\r",
            control if control < ' ' => json += &format!("\\u{:04x}", u32::from(control)),
            plain => json.push(plain),
        }
    }
    json + "\""
}

fn space(noise: &mut Noise, multiline: bool) -> String {
    if !noise.chance(6) {
        return String::new();
    }
    noise.pick(if multiline { &[" ", "\t", "\n", "\r\n  "] } else { &[" ", "\t", "\r", "   "] }).to_owned()
}

fn bad(noise: &mut Noise, quality: Quality) -> bool {
    quality.bad_one_in > 0 && noise.chance(quality.bad_one_in)
}
