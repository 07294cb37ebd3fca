use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use plexsphere_local::{
    Artifact, Artifacts, Installed, LocalError, Nats, NatsOptions, OpenBao, OpenBaoOptions, OpenBaoStorage, Paths,
    Postgres, PostgresOptions, PostgresTuning, Progress, Unprivileged, stop_in_order,
};
use tempfile::TempDir;

const GRACE: Duration = Duration::from_secs(20);

async fn installed(artifact: Artifact) -> Installed {
    let paths = Paths::discover().unwrap();
    Artifacts::new(&paths).ensure(&[artifact], &Progress::stderr()).await.unwrap()
}

/// A folder that PostgreSQL's user may enter.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

fn postgres_options(data: PathBuf) -> PostgresOptions {
    PostgresOptions { data, tuning: PostgresTuning::Throwaway, ..PostgresOptions::default() }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn postgres_finds_its_data_port_and_password_again() {
    let (installed, root) = (installed(Artifact::Postgres).await, folder());
    let data = root.path().join("postgres");
    let options = || PostgresOptions { data: data.clone(), ..PostgresOptions::default() };
    let first = Postgres::start(&installed, options()).await.unwrap();
    let url = first.url();
    assert_eq!(mode(&data.join("settings.json")), 0o600);
    let exit = first.stop(GRACE).await;
    assert!(exit.is_success(), "{exit}: {}", exit.last_lines());
    drop(first);
    let second = Postgres::start(&installed, options()).await.unwrap();
    assert_eq!(second.url(), url);
}

#[tokio::test]
async fn data_of_a_newer_postgres_is_left_alone() {
    let (installed, root) = (installed(Artifact::Postgres).await, folder());
    let cluster = root.path().join("cluster");
    fs::create_dir(&cluster).unwrap();
    fs::write(cluster.join("PG_VERSION"), "99\n").unwrap();
    let refused = Postgres::start(&installed, postgres_options(root.path().to_owned())).await.unwrap_err();
    assert!(matches!(refused, LocalError::NewerData { found: 99, .. }), "{refused}");
    assert!(refused.to_string().contains("was written by PostgreSQL 99, which is newer than"), "{refused}");
    assert_eq!(fs::read_to_string(cluster.join("PG_VERSION")).unwrap(), "99\n");
}

#[tokio::test]
async fn root_is_told_which_folder_keeps_the_user_of_postgres_out() {
    let Some(user) = Unprivileged::needed() else { return };
    let (installed, root) = (installed(Artifact::Postgres).await, tempfile::tempdir().unwrap());
    fs::set_permissions(root.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let refused = Postgres::start(&installed, postgres_options(root.path().join("pg"))).await.unwrap_err().to_string();
    let expected = format!("would run as {}, who cannot enter {};", user.name, root.path().display());
    assert!(refused.contains(&expected), "{refused}");
}

#[tokio::test]
async fn a_data_folder_in_use_is_refused_with_the_process_that_uses_it() {
    let (installed, root) = (installed(Artifact::Nats).await, folder());
    let options = || NatsOptions { data: root.path().join("nats"), ..NatsOptions::default() };
    let running = Nats::start(&installed, options()).await.unwrap();
    let refused = Nats::start(&installed, options()).await.unwrap_err().to_string();
    assert!(refused.contains(&format!("in use by another run (process {})", std::process::id())), "{refused}");
    assert!(running.handle().exit().is_none());
}

#[tokio::test]
async fn a_taken_port_that_was_asked_for_is_named() {
    let (installed, root) = (installed(Artifact::Nats).await, folder());
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let options = NatsOptions { data: root.path().join("nats"), port: Some(port), ..NatsOptions::default() };
    let refused = Nats::start(&installed, options).await.unwrap_err();
    assert!(matches!(refused, LocalError::PortTaken { .. }), "{refused}");
    assert!(refused.to_string().starts_with(&format!("port {port} on 127.0.0.1 is already taken")), "{refused}");
}

#[tokio::test]
async fn nats_keeps_its_port_and_password_and_hides_them_from_others() {
    let (installed, root) = (installed(Artifact::Nats).await, folder());
    let options = || NatsOptions { data: root.path().join("nats"), ..NatsOptions::default() };
    let first = Nats::start(&installed, options()).await.unwrap();
    let url = first.url();
    for secret in ["nats.conf", "settings.json"] {
        assert_eq!(mode(&first.data().join(secret)), 0o600, "{secret}");
    }
    first.stop(GRACE).await;
    drop(first);
    assert_eq!(Nats::start(&installed, options()).await.unwrap().url(), url);
}

#[tokio::test]
async fn a_server_that_dies_while_starting_is_shown_with_its_last_lines() {
    let (installed, root) = (installed(Artifact::Nats).await, folder());
    let data = root.path().join("nats");
    fs::create_dir_all(&data).unwrap();
    // JetStream cannot store in a file.
    fs::write(data.join("jetstream"), "in the way").unwrap();
    let refused = Nats::start(&installed, NatsOptions { data, ..NatsOptions::default() }).await.unwrap_err();
    assert!(matches!(refused, LocalError::DiedAtStart { .. }), "{refused}");
    let sentence = refused.to_string();
    assert!(sentence.starts_with("nats-server died while starting (exit status 1); its last lines: "), "{sentence}");
    assert!(sentence.contains("not a directory"), "{sentence}");
}

#[tokio::test]
async fn openbao_is_unsealed_with_the_kept_key_after_every_start() {
    let (installed, root) = (installed(Artifact::OpenBao).await, folder());
    let data = root.path().join("openbao");
    let options = || OpenBaoOptions { data: data.clone(), port: None, storage: OpenBaoStorage::Raft };
    let first = OpenBao::start(&installed, options()).await.unwrap();
    first.mount_kv2("mine").await.unwrap();
    assert_eq!(mode(&data.join("keys.json")), 0o600);
    let token = first.root_token().to_owned();
    first.stop(GRACE).await;
    drop(first);

    let second = OpenBao::start(&installed, options()).await.unwrap();
    assert_eq!(second.root_token(), token);
    let again = second.mount_kv2("mine").await.unwrap_err().to_string();
    assert!(again.contains("path is already in use"), "{again}");
    second.stop(GRACE).await;
    drop(second);

    fs::remove_file(data.join("keys.json")).unwrap();
    let refused = OpenBao::start(&installed, options()).await.unwrap_err().to_string();
    assert!(refused.contains("keys.json is damaged: it is gone"), "{refused}");
}

#[tokio::test]
async fn servers_stop_in_the_order_they_are_given() {
    let root = folder();
    let (bus, base) = (installed(Artifact::Nats).await, installed(Artifact::Postgres).await);
    let nats = Nats::start(&bus, NatsOptions { data: root.path().join("nats"), ..NatsOptions::default() });
    let postgres = Postgres::start(&base, postgres_options(root.path().join("postgres")));
    let (nats, postgres) = tokio::try_join!(nats, postgres).unwrap();
    let children = [nats.handle().clone(), postgres.handle().clone()];
    let watched = {
        let (first, last) = (children[0].clone(), children[1].clone());
        tokio::spawn(async move {
            first.exited().await;
            last.exit().is_none()
        })
    };
    let exits = stop_in_order(&children, GRACE).await;
    assert!(exits.iter().all(|exit| exit.signal.is_none()), "{exits:?}");
    assert!(watched.await.unwrap(), "postgres still runs when nats-server has ended");
}
