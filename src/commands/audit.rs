//! Looking at audit chains without the installation that made them.

use std::path::Path;
use std::process::ExitCode;

use plexsphere_audit::{ExportedChain, verify_export};
use serde_json::json;

use super::sentence;
use crate::cli::Output;
use crate::output::say;

/// Exit code of an export that does not hold.
const DOES_NOT_HOLD: u8 = 3;

/// What an export must have besides, for it cannot tell by itself what is missing before and behind it.
pub(crate) struct Demand {
    /// Each chain begins at place 1.
    pub(crate) from_start: bool,
    /// A chain ends with this hash, in hex.
    pub(crate) expect: Option<String>,
}

impl Demand {
    fn meets(&self, chains: &[ExportedChain]) -> bool {
        let begins = !self.from_start || chains.iter().all(|chain| chain.from == 1);
        let ends = self.expect.as_ref().is_none_or(|hash| {
            chains.iter().any(|chain| data_encoding::HEXLOWER.encode(&chain.hash).eq_ignore_ascii_case(hash))
        });
        begins && ends
    }
}

/// Checks exported segments by themselves. Succeeds only when every chain holds and what is demanded is there.
///
/// # Errors
/// One sentence when the files are no export.
pub(crate) fn verify(export: &Path, demand: &Demand, output: Output) -> Result<ExitCode, String> {
    let chains = verify_export(export).map_err(|fault| sentence(&fault))?;
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    match output {
        Output::Json => say(json!(
            chains
                .iter()
                .map(|chain| {
                    let mut value = json!({
                        "chain": chain.chain,
                        "ok": chain.divergence.is_none(),
                        "segment_from": chain.from,
                        "segment_to": chain.to,
                        "last_hash": hex(&chain.hash),
                    });
                    if let (Some(found), Some(members)) = (chain.divergence, value.as_object_mut()) {
                        members.insert("divergent_seq".to_owned(), found.seq.into());
                        members.insert("expected_hash".to_owned(), hex(&found.expected).into());
                        members.insert("observed_hash".to_owned(), hex(&found.observed).into());
                    }
                    value
                })
                .collect::<Vec<_>>()
        )),
        Output::Table => {
            for chain in &chains {
                say(line(chain, &hex(&chain.hash)));
            }
        }
    }
    let holds = chains.iter().all(|chain| chain.divergence.is_none()) && demand.meets(&chains);
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::from(DOES_NOT_HOLD) })
}

fn line(chain: &ExportedChain, hash: &str) -> String {
    let ExportedChain { chain, from, to, divergence, .. } = chain;
    match divergence {
        None => format!("{chain}  holds from {from} to {to}, last hash {hash}"),
        Some(found) => format!("{chain}  does not hold at {}", found.seq),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_beginning_and_a_missing_end_are_found_when_they_are_demanded() {
        let chain = |from| ExportedChain { chain: uuid::Uuid::nil(), from, to: 9, hash: [0xab; 32], divergence: None };
        let demand = |from_start, expect: Option<&str>| Demand { from_start, expect: expect.map(str::to_owned) };
        let (end, other) = ("ab".repeat(32), "cd".repeat(32));
        assert!(demand(false, None).meets(&[chain(5)]));
        assert!(demand(true, Some(&end)).meets(&[chain(1)]));
        assert!(!demand(true, None).meets(&[chain(1), chain(2)]));
        assert!(!demand(false, Some(&other)).meets(&[chain(1)]));
    }
}
