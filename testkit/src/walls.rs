//! What a context's role may touch beside its own schema.

/// One opening in the wall between schemas.
#[derive(Debug, Clone, Copy)]
pub struct Grant {
    /// The schema the opening leads to.
    pub schema: &'static str,
    /// The table, or `*` for all tables of the schema.
    pub table: &'static str,
    /// What is allowed there, as in SQL's GRANT.
    pub allow: &'static str,
}

/// What every context may do outside its own schema: hand events to the outbox and entries to the audit log.
///
/// An entry for a table that the migrations do not make is passed over.
pub const WALLS: &[Grant] = &[
    Grant { schema: "kernel", table: "outbox", allow: "INSERT" },
    Grant { schema: "kernel", table: "directory_changes", allow: "INSERT" },
    Grant { schema: "kernel", table: "installation", allow: "INSERT, SELECT" },
    Grant { schema: "audit", table: "*", allow: "INSERT" },
];

/// The statements that make `role` the role of the context `schema` in the present database, given the tables there are.
pub(crate) fn statements(role: &str, schema: &str, tables: &[(String, String)]) -> Vec<String> {
    let mut all = vec![
        format!("GRANT USAGE ON SCHEMA {schema} TO {role}"),
        format!("GRANT ALL ON ALL TABLES IN SCHEMA {schema} TO {role}"),
        format!("GRANT ALL ON ALL SEQUENCES IN SCHEMA {schema} TO {role}"),
        format!("GRANT EXECUTE ON ALL ROUTINES IN SCHEMA {schema} TO {role}"),
    ];
    for grant in WALLS.iter().filter(|grant| grant.schema != schema) {
        let opened: Vec<_> = tables
            .iter()
            .filter(|(in_schema, table)| in_schema == grant.schema && (grant.table == "*" || table == grant.table))
            .collect();
        if opened.is_empty() {
            continue;
        }
        all.push(format!("GRANT USAGE ON SCHEMA {} TO {role}", grant.schema));
        all.push(format!("GRANT USAGE ON ALL SEQUENCES IN SCHEMA {} TO {role}", grant.schema));
        for (in_schema, table) in opened {
            all.push(format!("GRANT {} ON {in_schema}.{table} TO {role}", grant.allow));
        }
    }
    all
}
