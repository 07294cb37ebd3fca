use super::*;

const SOON: Duration = Duration::from_millis(400);

fn row(number: u128, wire_type: &str, payload: &str) -> Row {
    Row {
        id: Uuid::from_u128(number),
        context: "mesh".to_owned(),
        name: "Happened".to_owned(),
        wire_type: (!wire_type.is_empty()).then(|| wire_type.to_owned()),
        target: None,
        payload: payload.to_owned(),
        created_at: Timestamp::from_unix_seconds(1_700_000_000),
        sealed: None,
    }
}

fn peer(number: u128, wire_type: &str, node: &str) -> Row {
    row(number, wire_type, &format!(r#"{{"peers":[{{"node_id":"{node}"}}]}}"#))
}

fn drafts(plan: &Plan) -> Vec<(&'static str, String, Vec<u128>)> {
    plan.steps
        .iter()
        .map(|step| match step {
            Step::Envelope(draft) => {
                (draft.event.as_str(), draft.payload.clone(), draft.rows.iter().map(|id| id.as_u128()).collect())
            }
            Step::Internal(row) => ("internal", row.payload.clone(), vec![row.id.as_u128()]),
            Step::Unknown(row) => ("unknown", row.payload.clone(), vec![row.id.as_u128()]),
        })
        .collect()
}

#[test]
fn broadcasts_of_two_registrations_become_one_envelope_of_each_type() {
    let rows = vec![
        peer(1, "peer_registered", "a"),
        peer(2, "peer_psk_assigned", "a"),
        peer(3, "peer_registered", "b"),
        peer(4, "peer_psk_assigned", "b"),
    ];
    assert_eq!(
        drafts(&plan(rows, |_| None)),
        [
            ("peer_registered", r#"{"peers":[{"node_id":"a"},{"node_id":"b"}]}"#.to_owned(), vec![1, 3]),
            ("peer_psk_assigned", r#"{"peers":[{"node_id":"a"},{"node_id":"b"}]}"#.to_owned(), vec![2, 4]),
        ]
    );
}

#[test]
fn what_is_said_about_one_node_keeps_its_order() {
    let rows =
        vec![peer(1, "peer_registered", "a"), peer(2, "peer_deregistered", "a"), peer(3, "peer_registered", "a")];
    let words: Vec<_> = drafts(&plan(rows, |_| None)).into_iter().map(|(word, ..)| word).collect();
    assert_eq!(words, ["peer_registered", "peer_deregistered", "peer_registered"]);
}

#[test]
fn nothing_is_merged_across_an_event_of_another_shape() {
    let rows = vec![
        peer(1, "peer_registered", "a"),
        row(2, "signing_key_rotated", r#"{"key_id":"k"}"#),
        peer(3, "peer_registered", "b"),
        row(4, "", "{}"),
        peer(5, "peer_registered", "c"),
    ];
    assert_eq!(plan(rows, |_| None).steps.len(), 5);
}

#[test]
fn an_envelope_carries_at_most_a_hundred_peers() {
    let rows = (0..250).map(|number| peer(number, "peer_registered", &format!("n{number}"))).collect();
    let sizes: Vec<_> = drafts(&plan(rows, |_| None)).into_iter().map(|(_, _, rows)| rows.len()).collect();
    assert_eq!(sizes, [100, 100, 50]);
}

#[test]
fn a_type_that_rests_holds_itself_and_what_follows_but_not_what_precedes() {
    let rows =
        vec![row(1, "node_state_updated", "{}"), peer(2, "peer_registered", "a"), row(3, "node_state_updated", "{}")];
    let plan = plan(rows, |event| (event == EventType::PeerRegistered).then_some(SOON));
    assert_eq!(plan.held_for, Some(SOON));
    assert_eq!(drafts(&plan), [("node_state_updated", "{}".to_owned(), vec![1])]);
}

#[test]
fn a_full_envelope_and_a_sealed_one_do_not_rest() {
    let rows = (0..100).map(|number| peer(number, "peer_registered", &format!("n{number}"))).collect();
    let full = plan(rows, |_| Some(SOON));
    assert_eq!((full.steps.len(), full.held_for), (1, None));

    let id = EnvelopeId::mint(Timestamp::from_unix_seconds(1_700_000_000));
    let sealed = |number, node: &str| Row {
        sealed: Some((id, "sealed text".to_owned())),
        ..peer(number, "peer_registered", node)
    };
    let again = plan(vec![sealed(1, "a"), peer(2, "peer_psk_assigned", "a"), sealed(3, "b")], |_| Some(SOON));
    assert_eq!(drafts(&again), [("peer_registered", "sealed text".to_owned(), vec![1, 3])]);
    assert_eq!(again.held_for, Some(SOON));
}

#[test]
fn a_payload_of_another_form_or_for_one_node_is_not_merged() {
    let one = NodeId::mint(Timestamp::from_unix_seconds(1_700_000_000));
    let rows = vec![
        peer(1, "peer_registered", "a"),
        row(2, "peer_registered", r#"{"peers":[{"node_id":"b"}],"occurred_at":"x"}"#),
        Row { target: Some(one), ..peer(3, "peer_registered", "c") },
    ];
    assert_eq!(plan(rows, |_| None).steps.len(), 3);
    assert_eq!(drafts(&plan(vec![row(1, "peer_added", "{}")], |_| None)).first().unwrap().0, "unknown");
}
