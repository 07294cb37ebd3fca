use super::*;

const ASKED: Asked<'_> =
    Asked { authority: "localhost:1", path: "/v1/nodes/n/events", bearer: "nsk_x", cursor: Some(7), tls: false };

/// Feeds `bytes` in pieces of every size up to eight; the body and the replies.
fn fed(make: fn() -> Exchange, bytes: &[u8]) -> Vec<(Exchange, Vec<u8>, Vec<u8>)> {
    let feed = |size: usize| {
        let (mut exchange, mut body, mut reply) = (make(), Vec::new(), Vec::new());
        for piece in bytes.chunks(size) {
            exchange.feed(piece, &mut body, &mut reply).unwrap();
        }
        (exchange, body, reply)
    };
    (1..=8).map(feed).collect()
}

#[test]
fn chunks_are_joined_however_they_are_cut_and_a_clean_end_is_seen() {
    let text = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n:ok\n\n\r\n1a;x=y\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n";
    for (exchange, body, _) in fed(Exchange::h1, text) {
        assert_eq!(body, b":ok\n\nabcdefghijklmnopqrstuvwxyz");
        assert_eq!((exchange.status(), exchange.ended()), (Some(200), true));
    }
    let request = String::from_utf8(Exchange::h1().request(&ASKED)).unwrap();
    assert!(request.contains("\r\nlast-event-id: 7\r\n") && request.ends_with("\r\n\r\n"), "{request}");
}

#[test]
fn a_refusal_is_read_as_its_status_and_nonsense_as_broken() {
    let mut exchange = Exchange::h1();
    exchange.feed(b"HTTP/1.1 503 x\r\ncontent-length: 2\r\n\r\n{}", &mut Vec::new(), &mut Vec::new()).unwrap();
    assert_eq!(exchange.status(), Some(503));
    for nonsense in [
        &b"SSH-2.0\r\n\r\n"[..],
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let fed = Exchange::h1().feed(nonsense, &mut Vec::new(), &mut Vec::new());
        assert_eq!(fed, Err(Broken::Malformed));
    }
}

#[test]
fn frames_carry_the_body_settings_and_pings_are_answered() {
    let bytes = [
        &[0, 0, 0, 4, 0, 0, 0, 0, 0][..],
        &[0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88],
        &[0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
        &[0, 0, 5, 0, 0, 0, 0, 0, 1, b':', b'o', b'k', b'\n', b'\n'],
    ]
    .concat();
    for (exchange, body, reply) in fed(Exchange::h2, &bytes) {
        assert_eq!((exchange.status(), exchange.ended(), body.as_slice()), (Some(200), false, &b":ok\n\n"[..]));
        assert_eq!(
            reply,
            [&[0, 0, 0, 4, 1, 0, 0, 0, 0][..], &[0, 0, 8, 6, 1, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]].concat()
        );
    }
}

#[test]
fn a_window_is_opened_again_before_it_is_empty() {
    let (mut exchange, mut reply) = (Exchange::h2(), Vec::new());
    let frame = [&[0, 0x40, 0, 0, 0, 0, 0, 0, 1][..], &[b'x'; 16_384]].concat();
    exchange.feed(&frame, &mut Vec::new(), &mut reply).unwrap();
    assert!(reply.is_empty());
    exchange.feed(&frame, &mut Vec::new(), &mut reply).unwrap();
    assert_eq!(reply.len(), 26);
}

#[test]
fn a_status_is_read_by_index_in_clear_and_coded() {
    let status = |block: &[u8]| {
        let mut exchange = Exchange::h2();
        let head = [0, 0, u8::try_from(block.len()).unwrap(), 1, 5, 0, 0, 0, 1];
        exchange.feed(&[&head, block].concat(), &mut Vec::new(), &mut Vec::new()).unwrap();
        exchange.status()
    };
    assert_eq!(status(&[0x3f, 0x01, 0x8c]), Some(400));
    assert_eq!(status(&[0x48, 3, b'4', b'2', b'9']), Some(429));
    // 5 = 011011, 0 = 00000, 3 = 011001.
    assert_eq!(status(&[0x48, 0x83, 0b0110_1100, 0b0000_1100, 0b1111_1111]), Some(503));
}

#[test]
fn a_reset_breaks_the_stream() {
    let reset = [0, 0, 4, 3, 0, 0, 0, 0, 1, 0, 0, 0, 8];
    assert_eq!(Exchange::h2().feed(&reset, &mut Vec::new(), &mut Vec::new()), Err(Broken::Reset));
}
