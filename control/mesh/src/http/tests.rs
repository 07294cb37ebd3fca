use super::*;

#[test]
fn gzip_is_sent_to_those_who_take_it() {
    let with = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ACCEPT_ENCODING, value.parse().unwrap());
        }
        takes_gzip(&headers)
    };
    for taken in [&["gzip"][..], &["br, GZip;q=0.5"], &["br", "gzip"], &["*"], &["gzip; q=1"]] {
        assert!(with(taken), "{taken:?}");
    }
    for refused in [&[][..], &["br"], &["gzip;q=0"], &["gzip;q=0, *"], &["identity"], &["*;q=0"]] {
        assert!(!with(refused), "{refused:?}");
    }
}
