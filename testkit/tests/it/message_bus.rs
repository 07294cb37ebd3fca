use async_nats::jetstream::stream;
use futures_util::StreamExt;
use plexsphere_testkit::{eventually, nats, nats_own};

fn stream() -> stream::Config {
    stream::Config { name: "EVENTS".to_owned(), subjects: vec!["events.>".to_owned()], ..Default::default() }
}

#[tokio::test]
async fn two_tests_never_see_each_others_streams_and_subjects() {
    let (one, two) = tokio::join!(nats(), nats());
    assert_eq!(one.pid(), two.pid());
    let (first, second) = (one.jetstream().await, two.jetstream().await);
    first.create_stream(stream()).await.unwrap();
    assert!(second.get_stream("EVENTS").await.is_err());

    let mut heard = two.client().await.subscribe("events.>").await.unwrap();
    first.publish("events.a", "x".into()).await.unwrap().await.unwrap();
    let own = two.client().await;
    own.publish("events.b", "y".into()).await.unwrap();
    own.flush().await.unwrap();
    assert_eq!(heard.next().await.unwrap().subject.as_str(), "events.b");
}

#[tokio::test]
async fn an_acknowledged_message_survives_a_kill_and_a_restart() {
    let mut server = nats_own().await;
    let jetstream = server.jetstream().await;
    jetstream.create_stream(stream()).await.unwrap();
    jetstream.publish("events.a", "kept".into()).await.unwrap().await.unwrap();
    let url = server.url();
    server.kill9().await;
    server.restart().await;
    assert_eq!(server.url(), url);
    let found = server.jetstream().await.get_stream("EVENTS").await.unwrap();
    assert_eq!(found.get_raw_message(1).await.unwrap().payload, "kept");
    eventually!(jetstream.get_stream("EVENTS").await.is_ok(), "the old connection finds the server again");
}

#[tokio::test]
async fn the_server_takes_messages_of_eight_megabytes_and_batches() {
    let client = nats().await.client().await;
    let info = client.server_info();
    assert_eq!(info.max_payload, 8 << 20);
    assert!(client.is_server_compatible(2, 15, 0), "{}", info.version);
}
