//! Inflation: what is one complete stream, what is not, and how much memory a lie may cost.

use std::io::Write as _;

use flate2::{Compression, Crc, GzBuilder, write::GzEncoder};
use proptest::prelude::*;

use crate::telemetry::limits::INFLATED_BYTES;
use crate::telemetry::{Encoding, InflateError, Inflater};

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn zstd(plain: &[u8]) -> Vec<u8> {
    zstd::bulk::compress(plain, 1).unwrap()
}

/// A frame that does not state its size, as a streaming encoder writes it.
fn zstd_streamed(plain: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn encode(encoding: Encoding, plain: &[u8]) -> Vec<u8> {
    match encoding {
        Encoding::Identity => plain.to_vec(),
        Encoding::Gzip => gzip(plain),
        Encoding::Zstd => zstd(plain),
    }
}

/// Text that compresses, but not to nothing.
fn sample(bytes: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        b'a' + u8::try_from(state >> 28).unwrap()
    };
    (0..bytes).map(|_| next()).collect()
}

const COMPRESSED: [Encoding; 2] = [Encoding::Gzip, Encoding::Zstd];

#[test]
fn an_inflater_serves_batch_after_batch_of_every_encoding() {
    let mut inflater = Inflater::new();
    for bytes in [0, 1, 1_000, 65_535, 65_536, 65_537, 300_000, 10, 131_072] {
        let plain = sample(bytes);
        for encoding in [Encoding::Zstd, Encoding::Gzip, Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
            let wire = encode(encoding, &plain);
            assert_eq!(inflater.inflate(encoding, &wire, INFLATED_BYTES), Ok(&plain[..]), "{encoding:?} {bytes}");
        }
        let wire = zstd_streamed(&plain);
        assert_eq!(inflater.inflate(Encoding::Zstd, &wire, INFLATED_BYTES), Ok(&plain[..]), "streamed {bytes}");
    }
}

#[test]
fn a_failure_leaves_nothing_behind_for_the_next_batch() {
    let mut inflater = Inflater::new();
    let plain = sample(200_000);
    for encoding in COMPRESSED {
        let wire = encode(encoding, &plain);
        for broken in [&wire[..wire.len() / 2], &wire[1..], b"garbage"] {
            assert_eq!(inflater.inflate(encoding, broken, INFLATED_BYTES), Err(InflateError::Invalid));
            assert_eq!(inflater.inflate(encoding, &wire, INFLATED_BYTES), Ok(&plain[..]));
        }
        assert_eq!(inflater.inflate(encoding, &wire, 1_000), Err(InflateError::TooLarge { cap: 1_000 }));
        assert_eq!(inflater.inflate(encoding, &wire, INFLATED_BYTES), Ok(&plain[..]));
    }
}

#[test]
fn concatenated_members_and_frames_are_one_stream() {
    let mut inflater = Inflater::new();
    let parts = [sample(10), Vec::new(), sample(100_000), sample(3)];
    let plain = parts.concat();
    for encoding in COMPRESSED {
        let wire: Vec<u8> = parts.iter().flat_map(|part| encode(encoding, part)).collect();
        assert_eq!(inflater.inflate(encoding, &wire, INFLATED_BYTES), Ok(&plain[..]));
        let cap = plain.len();
        assert!(inflater.inflate(encoding, &wire, cap).is_ok());
        assert_eq!(inflater.inflate(encoding, &wire, cap - 1), Err(InflateError::TooLarge { cap: cap - 1 }));
    }
    let frames = [zstd_streamed(&parts[2]), vec![0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 9, 9], zstd(&parts[0])].concat();
    let plain = [&parts[2][..], &parts[0]].concat();
    assert_eq!(inflater.inflate(Encoding::Zstd, &frames, INFLATED_BYTES), Ok(&plain[..]), "skippable frame");
}

#[test]
fn a_stream_cut_short_at_any_byte_is_invalid() {
    let mut inflater = Inflater::new();
    let plain = sample(2_000);
    for wire in [gzip(&plain), [gzip(b"x"), gzip(b"y")].concat()] {
        let boundary = gzip(b"x").len();
        for end in (0..wire.len()).filter(|end| *end != boundary) {
            assert_eq!(
                inflater.inflate(Encoding::Gzip, &wire[..end], INFLATED_BYTES),
                Err(InflateError::Invalid),
                "{end}"
            );
        }
    }
    for wire in [zstd(&plain), zstd_streamed(&plain)] {
        for end in 0..wire.len() {
            assert_eq!(
                inflater.inflate(Encoding::Zstd, &wire[..end], INFLATED_BYTES),
                Err(InflateError::Invalid),
                "{end}"
            );
        }
    }
}

#[test]
fn anything_after_the_stream_is_invalid() {
    let mut inflater = Inflater::new();
    for encoding in COMPRESSED {
        for tail in [&b"\0"[..], b"\n", b"garbage", &[0; 512], &[0x1f], &[0x1f, 0x8b], &[0x28, 0xb5]] {
            let wire = [&encode(encoding, b"x"), tail].concat();
            let result = inflater.inflate(encoding, &wire, INFLATED_BYTES);
            assert_eq!(result, Err(InflateError::Invalid), "{encoding:?} {tail:?}");
        }
    }
}

#[test]
fn a_flipped_bit_never_yields_other_bytes() {
    let mut inflater = Inflater::new();
    let plain = sample(500);
    for (encoding, wire) in [(Encoding::Gzip, gzip(&plain)), (Encoding::Zstd, zstd_streamed(&plain))] {
        for bit in 0..wire.len() * 8 {
            let mut flipped = wire.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            if let Ok(inflated) = inflater.inflate(encoding, &flipped, INFLATED_BYTES) {
                assert_eq!(inflated, plain, "{encoding:?} bit {bit}");
            }
        }
    }
}

#[test]
fn every_optional_part_of_a_gzip_header_is_read() {
    let mut inflater = Inflater::new();
    let builder = || GzBuilder::new().mtime(1).filename("name").comment("comment").extra(vec![1, 2, 3]);
    let mut encoder = builder().write(Vec::new(), Compression::fast());
    encoder.write_all(b"body").unwrap();
    let wire = encoder.finish().unwrap();
    assert_eq!(inflater.inflate(Encoding::Gzip, &wire, 4), Ok(&b"body"[..]));

    let header_bytes = 10 + 2 + 3 + 5 + 8;
    let mut header = wire[..header_bytes].to_vec();
    header[3] |= 0x02;
    let mut crc = Crc::new();
    crc.update(&header);
    let check = u16::try_from(crc.sum() & 0xffff).unwrap();
    let with = |check: u16| [&header[..], &check.to_le_bytes(), &wire[header_bytes..]].concat();
    assert_eq!(inflater.inflate(Encoding::Gzip, &with(check), 4), Ok(&b"body"[..]));
    assert_eq!(inflater.inflate(Encoding::Gzip, &with(check ^ 1), 4), Err(InflateError::Invalid));

    let mut reserved = wire.clone();
    reserved[3] |= 0x20;
    assert_eq!(inflater.inflate(Encoding::Gzip, &reserved, 4), Err(InflateError::Invalid));
}

#[test]
fn the_cap_is_exact() {
    let mut inflater = Inflater::new();
    for cap in [1, 65_535, 65_536, 100_000] {
        let (fits, over) = (sample(cap), sample(cap + 1));
        for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd] {
            assert_eq!(inflater.inflate(encoding, &encode(encoding, &fits), cap), Ok(&fits[..]));
            let wire = encode(encoding, &over);
            let refused = inflater.inflate(encoding, &wire, cap);
            assert_eq!(refused, Err(InflateError::TooLarge { cap }), "{encoding:?} {cap}");
        }
        assert_eq!(inflater.inflate(Encoding::Zstd, &zstd_streamed(&over), cap), Err(InflateError::TooLarge { cap }));
    }
}

#[test]
fn a_bomb_stops_at_the_cap_and_holds_no_more_than_the_cap() {
    let plain = vec![b' '; 64 << 20];
    let bombs = [
        (Encoding::Gzip, gzip(&plain)),
        (Encoding::Zstd, zstd(&plain)),
        (Encoding::Zstd, zstd_streamed(&plain)),
        (Encoding::Gzip, gzip(&plain[..1 << 20]).repeat(64)),
    ];
    for (encoding, bomb) in bombs {
        let mut inflater = Inflater::new();
        let refused = inflater.inflate(encoding, &bomb, INFLATED_BYTES);
        assert_eq!(refused, Err(InflateError::TooLarge { cap: INFLATED_BYTES }));
        assert!(inflater.buffer_bytes() <= INFLATED_BYTES + 1, "{}", inflater.buffer_bytes());
        inflater.release_above(65_536);
        assert_eq!(inflater.buffer_bytes(), 0);
    }
}

#[test]
fn a_frame_that_lies_about_its_size_costs_no_more_than_the_cap() {
    let mut inflater = Inflater::new();
    // Magic, a descriptor with an eight-byte size and a single segment, the largest size, an empty last block.
    let lie = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &[0xfd; 8], &[1, 0, 0]].concat();
    assert!(inflater.inflate(Encoding::Zstd, &lie, 100_000).is_err());
    assert!(inflater.buffer_bytes() <= 100_001);
}

#[test]
fn a_window_beyond_the_limit_is_invalid() {
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(27).unwrap();
    encoder.write_all(&sample(1_000)).unwrap();
    let wire = encoder.finish().unwrap();
    assert_eq!(Inflater::new().inflate(Encoding::Zstd, &wire, INFLATED_BYTES), Err(InflateError::Invalid));
}

#[test]
fn thousands_of_empty_members_are_inflated_in_one_state() {
    let wire = gzip(b"").repeat(50_000);
    assert_eq!(Inflater::new().inflate(Encoding::Gzip, &wire, INFLATED_BYTES), Ok(&b""[..]));
}

#[test]
fn an_inflater_may_move_between_threads() {
    fn assert_send<T: Send>() {}
    assert_send::<Inflater>();
}

proptest! {
    #[test]
    fn the_library_decoder_agrees_on_noise(
        mut wire in proptest::collection::vec(any::<u8>(), 0..400).prop_map(|plain| gzip(&plain)),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let at = at.index(wire.len());
        wire[at] = byte;
        let mut reference = Vec::new();
        let valid = std::io::Read::read_to_end(&mut flate2::bufread::MultiGzDecoder::new(&wire[..]), &mut reference).is_ok();
        match Inflater::new().inflate(Encoding::Gzip, &wire, INFLATED_BYTES) {
            Ok(inflated) => prop_assert!(valid && inflated == reference),
            // Reserved flags are the one thing on which we are stricter.
            Err(_) => prop_assert!(!valid || at == 3),
        }
    }
}
