//! The SQL of the audit context.

pub(crate) mod chains;
mod copying;
pub(crate) mod intake;
pub(crate) mod mirror;
pub(crate) mod pending;
pub(crate) mod reading;
pub(crate) mod verifying;

/// Every statement of the context, for the test that prepares them.
#[must_use]
pub fn statements() -> Vec<String> {
    let constant = [
        chains::STATEMENTS,
        intake::STATEMENTS,
        mirror::STATEMENTS,
        pending::STATEMENTS,
        reading::STATEMENTS,
        verifying::STATEMENTS,
    ]
    .concat();
    constant.into_iter().map(str::to_owned).chain(reading::lists()).collect()
}
