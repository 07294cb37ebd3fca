//! The page: facts, a verdict, the protocols side by side, charts, counts.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::plot::{Group, Series, bars, lines, short};
use crate::fleet::{FleetResult, Latency, PhaseResult, Point};
use crate::verify;

const STYLE: &str = include_str!("style.css");

/// Text as it stands in HTML.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

/// The report of a run.
#[must_use]
pub fn html(result: &FleetResult) -> String {
    let mut out = String::with_capacity(64 * 1024);
    let name = escape(&result.name);
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width, initial-scale=1\"><title>{name}: load report</title><style>{STYLE}</style>\
         </head><body><main><h1>{name}</h1>{}{}",
        facts(result),
        verdict(result),
    );
    heading(&mut out, "Protocols side by side", &side_by_side(&result.phases));
    heading(&mut out, "Records accepted per second", &over_time("records per second", &result.phases, records));
    heading(&mut out, "Latency over time, milliseconds", &over_time("milliseconds", &result.phases, latencies));
    heading(&mut out, "Latency from due to accepted, milliseconds", &percentiles(&result.phases));
    heading(&mut out, "Records", &signals(&result.phases));
    if let Some(counts) = &result.verification {
        heading(&mut out, "Arrived in the file sink", &verification(counts));
    }
    if result.phases.iter().any(|phase| phase.events.is_some()) {
        heading(&mut out, "Event streams", &events(&result.phases));
    }
    heading(&mut out, "Refusals and faults", &errors(&result.phases));
    out.push_str("</main></body></html>\n");
    out
}

fn heading(out: &mut String, title: &str, content: &str) {
    let _ = write!(out, "<h2>{title}</h2>{content}");
}

fn facts(result: &FleetResult) -> String {
    format!(
        "<p class=\"facts\">Nodes {}, domains {}, a batch of each signal every {} ms for {} s, encoding {}, seed {}. \
         {} to {}.</p>",
        result.nodes,
        result.domains,
        result.interval_millis,
        result.duration_millis / 1_000,
        escape(&result.encoding),
        result.seed,
        result.started_at.whole_second(),
        result.finished_at.whole_second(),
    )
}

fn verdict(result: &FleetResult) -> String {
    if result.holds() {
        "<span class=\"verdict good\">nothing lost, nothing doubled</span>".to_owned()
    } else {
        "<span class=\"verdict bad\">something was lost, doubled or not accepted</span>".to_owned()
    }
}

struct Table(String);

impl Table {
    fn new(heads: &[&str]) -> Self {
        let cells: String = heads.iter().map(|head| format!("<th>{}</th>", escape(head))).collect();
        Self(format!("<section><table><thead><tr>{cells}</tr></thead><tbody>"))
    }

    fn row(&mut self, cells: &[String]) {
        let cells: String = cells.iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect();
        let _ = write!(self.0, "<tr>{cells}</tr>");
    }

    /// A row whose cells behind `from` are faults when they are not zero.
    fn judged(&mut self, cells: &[String], from: usize) {
        self.0.push_str("<tr>");
        for (index, cell) in cells.iter().enumerate() {
            let class = if index >= from && cell != "0" { " class=\"bad\"" } else { "" };
            let _ = write!(self.0, "<td{class}>{}</td>", escape(cell));
        }
        self.0.push_str("</tr>");
    }

    fn finish(self) -> String {
        self.0 + "</tbody></table></section>"
    }
}

fn millis(value: f64) -> String {
    format!("{value:.1}")
}

fn side_by_side(phases: &[PhaseResult]) -> String {
    let heads = [
        "protocol",
        "records/s",
        "requests",
        "MiB sent",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
        "failures",
    ];
    let mut table = Table::new(&heads);
    for phase in phases {
        let Latency { p50, p90, p99, p999, max, .. } = phase.latency_all;
        let failures: u64 = phase.errors.values().sum();
        let mut cells = vec![phase.protocol.clone(), short(phase.records_per_second), phase.requests.to_string()];
        cells.push(mebibytes(phase.wire_bytes));
        cells.extend([p50, p90, p99, p999, max].map(millis));
        cells.push(failures.to_string());
        table.judged(&cells, heads.len() - 1);
    }
    table.finish()
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
fn mebibytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / 1_048_576.0)
}

/// Which lines of a chart a point belongs to: name behind the protocol's, dashed or not, value.
type Lines = Vec<(&'static str, bool, f64)>;

#[allow(clippy::cast_precision_loss, reason = "a place in a picture")]
fn records(point: &Point) -> Lines {
    vec![("", false, point.records as f64)]
}

fn latencies(point: &Point) -> Lines {
    vec![(" p50", false, point.p50), (" p99", true, point.p99)]
}

fn over_time(label: &str, phases: &[PhaseResult], of: fn(&Point) -> Lines) -> String {
    let mut series = Vec::new();
    let shape = of(&Point::default());
    for (colour, phase) in phases.iter().enumerate() {
        for (line, (name, dashed, _)) in shape.iter().enumerate() {
            let points = phase.timeline.iter().filter_map(|point| Some((point.seconds, of(point).get(line)?.2)));
            let name = format!("{}{name}", phase.protocol);
            series.push(Series { name, colour, dashed: *dashed, points: points.collect() });
        }
    }
    lines(label, &series)
}

fn percentiles(phases: &[PhaseResult]) -> String {
    let group = |name: &str, of: fn(&Latency) -> f64| Group {
        name: name.to_owned(),
        bars: phases.iter().enumerate().map(|(colour, phase)| (colour, of(&phase.latency_all))).collect(),
    };
    let groups = [
        group("p50", |one| one.p50),
        group("p90", |one| one.p90),
        group("p99", |one| one.p99),
        group("p99.9", |one| one.p999),
    ];
    bars("latency percentiles", &groups)
}

fn signals(phases: &[PhaseResult]) -> String {
    let heads =
        ["protocol, signal", "made", "sent", "acknowledged", "p50 ms", "p99 ms", "dropped", "evicted", "unsettled"];
    let mut table = Table::new(&heads);
    for phase in phases {
        for (signal, totals) in &phase.signals {
            let latency = phase.latency.get(signal).copied().unwrap_or_default();
            let mut cells = vec![format!("{} {signal}", phase.protocol)];
            cells.extend([totals.made, totals.sent, totals.acknowledged].map(|count| count.to_string()));
            cells.extend([latency.p50, latency.p99].map(millis));
            cells.extend([totals.dropped, totals.evicted, totals.unsettled].map(|count| count.to_string()));
            table.judged(&cells, 6);
        }
    }
    table.finish()
}

fn verification(counts: &verify::Counts) -> String {
    let heads = ["signal", "sent", "acknowledged", "arrived", "missing", "duplicated", "unknown", "unkeyed"];
    let mut table = Table::new(&heads);
    for (signal, one) in &counts.signals {
        let numbers = [one.sent, one.acknowledged, one.arrived, one.missing, one.duplicated, one.unknown, one.unkeyed];
        let mut cells = vec![signal.clone()];
        cells.extend(numbers.map(|count| count.to_string()));
        table.judged(&cells, 4);
    }
    table.finish()
}

fn events(phases: &[PhaseResult]) -> String {
    let heads =
        ["protocol", "streams", "resumed", "joins", "believed", "distrusted", "repeated", "backwards", "missed"];
    let mut table = Table::new(&heads);
    for phase in phases {
        let Some(events) = &phase.events else { continue };
        let fine = [events.connects, events.resumed, events.joins, events.believed];
        let faults = [events.distrusted, events.repeated, events.backwards, events.missed];
        let mut cells = vec![phase.protocol.clone()];
        cells.extend(fine.iter().chain(&faults).map(u64::to_string));
        table.judged(&cells, 5);
    }
    table.finish()
}

fn errors(phases: &[PhaseResult]) -> String {
    let codes: BTreeSet<&String> = phases.iter().flat_map(|phase| phase.errors.keys()).collect();
    if codes.is_empty() {
        return "<section>None.</section>".to_owned();
    }
    let mut heads = vec!["code"];
    heads.extend(phases.iter().map(|phase| phase.protocol.as_str()));
    let mut table = Table::new(&heads);
    for code in codes {
        let mut cells = vec![code.clone()];
        cells.extend(phases.iter().map(|phase| phase.errors.get(code).copied().unwrap_or(0).to_string()));
        table.row(&cells);
    }
    table.finish()
}

#[cfg(test)]
mod tests {
    use plexsphere_wire::Timestamp;

    use super::*;
    use crate::fleet::SignalTotals;

    fn result(unsettled: u64) -> FleetResult {
        let totals =
            SignalTotals { made: 10, sent: 10, acknowledged: 10 - unsettled, unsettled, ..SignalTotals::default() };
        let phase = |protocol: &str| PhaseResult {
            protocol: protocol.into(),
            signals: [("logs".to_owned(), totals)].into(),
            errors: [("per_node_rate_limited".to_owned(), 2)].into(),
            timeline: vec![Point { seconds: 1.0, records: 5, p50: 1.5, p99: 9.0, ..Point::default() }],
            ..PhaseResult::default()
        };
        FleetResult {
            schema: 1,
            name: "a <run>".into(),
            started_at: Timestamp::UNIX_EPOCH,
            finished_at: Timestamp::UNIX_EPOCH,
            nodes: 2,
            domains: 1,
            interval_millis: 1_000,
            duration_millis: 30_000,
            encoding: "agent".into(),
            seed: 1,
            registration: Latency::default(),
            phases: vec![phase("h1"), phase("h3")],
            verification: None,
        }
    }

    #[test]
    fn the_page_is_whole_names_every_protocol_and_fetches_nothing() {
        let page = html(&result(0));
        assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
        assert!(page.contains("a &lt;run&gt;") && page.contains("per_node_rate_limited"));
        assert!(page.contains("<td>h1</td>") && page.contains("<td>h3</td>"));
        for outside in ["http://", "https://", "src=", "<script", "@import", "url("] {
            assert!(!page.contains(outside), "{outside}");
        }
        for tag in ["svg", "section", "figure", "table", "main"] {
            let (opened, closed) = (format!("<{tag}"), format!("</{tag}>"));
            assert_eq!(page.matches(&opened).count(), page.matches(&closed).count(), "{tag}");
        }
    }

    #[test]
    fn a_run_in_which_nothing_happened_or_the_rig_failed_is_not_good() {
        let bad = |change: fn(&mut FleetResult)| {
            let mut changed = result(0);
            change(&mut changed);
            assert!(!changed.holds(), "{changed:?}");
        };
        assert!(result(0).holds());
        bad(|result| result.phases.clear());
        bad(|result| result.phases[1].signals.clear());
        bad(|result| result.phases[1].signals = [("logs".to_owned(), SignalTotals::default())].into());
        bad(|result| result.phases[0].errors = [("ledger_not_written".to_owned(), 1)].into());
        bad(|result| result.phases[0].errors = [("record_without_key".to_owned(), 1)].into());
        bad(|result| result.verification = Some(verify::Counts::default()));
    }

    #[test]
    fn the_verdict_follows_the_counts() {
        assert!(html(&result(0)).contains("verdict good"));
        let lost = html(&result(1));
        assert!(lost.contains("verdict bad") && lost.contains("<td class=\"bad\">1</td>"));
    }
}
