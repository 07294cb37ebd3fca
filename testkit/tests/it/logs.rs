use plexsphere_testkit::logs;

fn caught(test: impl FnOnce() + Send + 'static) -> Option<String> {
    let failed = std::thread::spawn(test).join().err()?;
    Some(failed.downcast_ref::<String>().cloned().unwrap_or_default())
}

#[test]
fn an_unexpected_warning_fails_the_test_and_is_shown() {
    let message = caught(|| {
        let _guard = logs::guard();
        tracing::info!("all is well");
        tracing::warn!(peer = 7, "peer is slow");
    });
    assert!(message.unwrap().contains("peer is slow peer=7"));
}

#[test]
fn an_expected_error_does_not_fail_the_test() {
    let message = caught(|| {
        let guard = logs::guard();
        guard.expect("bus is away");
        tracing::error!("bus is away");
        assert!(guard.saw("bus is away"));
    });
    assert_eq!(message, None);
}

#[test]
fn a_warning_of_another_test_does_not_fail_this_one() {
    let message = caught(|| {
        let _guard = logs::guard();
        let other = caught(|| {
            let _guard = logs::guard();
            tracing::warn!("only the other test");
        });
        assert!(other.is_some());
    });
    assert_eq!(message, None);
}

#[test]
fn a_line_on_another_thread_belongs_to_the_test_that_opened_its_span() {
    let message = caught(|| {
        let _guard = logs::guard();
        let span = tracing::info_span!("work");
        std::thread::spawn(move || span.in_scope(|| tracing::error!("broken in the back"))).join().unwrap();
    });
    assert!(message.unwrap().contains("broken in the back"));
}
