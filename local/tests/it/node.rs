use plexsphere_local::{Artifact, Artifacts, LocalError, NodePackages, Paths, Progress};

/// A package without dependencies, and a lock file with the hash of something else.
const FORGED: NodePackages = NodePackages {
    name: "forged",
    files: &[
        ("package.json", r#"{"name":"forged","version":"1.0.0","private":true,"dependencies":{"depd":"2.0.0"}}"#),
        (
            "package-lock.json",
            r#"{"name":"forged","version":"1.0.0","lockfileVersion":3,"requires":true,"packages":{
                "":{"name":"forged","version":"1.0.0","dependencies":{"depd":"2.0.0"}},
                "node_modules/depd":{"version":"2.0.0","integrity":
                "sha512-AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=="}}}"#,
        ),
    ],
};

#[tokio::test]
async fn a_package_with_another_hash_is_not_installed_and_nothing_of_it_is_left() {
    let installed =
        Artifacts::new(&Paths::discover().unwrap()).ensure(&[Artifact::Node], &Progress::stderr()).await.unwrap();
    let node = installed.get(Artifact::Node).unwrap();
    let root = tempfile::tempdir().unwrap();
    let paths = Paths { cache: root.path().join("cache"), data: root.path().join("data") };
    let refused = Artifacts::new(&paths).node_packages(node, FORGED, &Progress::silent()).await.unwrap_err();
    assert!(matches!(refused, LocalError::Packages { name: "forged", .. }), "{refused}");
    assert!(refused.to_string().contains("EINTEGRITY"), "{refused}");
    let left = std::fs::read_dir(&paths.cache).unwrap().flatten().map(|entry| entry.file_name());
    let left: Vec<_> = left.filter(|name| !name.to_string_lossy().ends_with(".lock")).collect();
    assert!(left.is_empty(), "{left:?}");
}
