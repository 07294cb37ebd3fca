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

/// Checks exported segments by themselves. Succeeds only when every chain holds.
///
/// # Errors
/// One sentence when the files are no export.
pub(crate) fn verify(export: &Path, output: Output) -> Result<ExitCode, String> {
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
    let holds = chains.iter().all(|chain| chain.divergence.is_none());
    Ok(if holds { ExitCode::SUCCESS } else { ExitCode::from(DOES_NOT_HOLD) })
}

fn line(chain: &ExportedChain, hash: &str) -> String {
    let ExportedChain { chain, from, to, divergence, .. } = chain;
    match divergence {
        None => format!("{chain}  holds from {from} to {to}, last hash {hash}"),
        Some(found) => format!("{chain}  does not hold at {}", found.seq),
    }
}
