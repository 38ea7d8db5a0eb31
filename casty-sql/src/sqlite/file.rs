//! Checks of the path of a database, before SQLite opens it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use crate::OpenError;

/// File systems on which locks or shared memory do not hold between machines. On one of them two
/// hosts can damage the file.
const NETWORK: [&str; 16] = [
    "afs",
    "ceph",
    "cifs",
    "fuse.ceph",
    "fuse.glusterfs",
    "fuse.s3fs",
    "fuse.sshfs",
    "gfs2",
    "glusterfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "smb3",
    "smbfs",
];

/// The absolute form of a path at which a database can be opened or created.
pub(super) fn check(path: &Path) -> Result<PathBuf, OpenError> {
    let text = path.to_str().unwrap_or_default();
    if text.is_empty() || text == ":memory:" || text.starts_with("file:") || text.contains('\0') {
        return Err(OpenError::NotAPath { path: path.into() });
    }
    let unreadable = |error: std::io::Error| OpenError::Unavailable {
        store: format!("SQLite at {}", path.display()),
        reason: error.to_string(),
    };
    let absolute = std::path::absolute(path).map_err(unreadable)?;
    match fs::metadata(&absolute) {
        Ok(metadata) if metadata.is_dir() => {
            return Err(OpenError::Directory { path: absolute });
        }
        Ok(metadata) if metadata.permissions().readonly() => {
            return Err(read_only(
                &absolute,
                "nobody has the permission to write to the file; change it with chmod",
            ));
        }
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(unreadable(error)),
    }
    let parent = absolute.parent().unwrap_or(&absolute);
    if !parent.is_dir() {
        return Err(OpenError::MissingParent { path: absolute });
    }
    // The file may be a link to another file system.
    let resolved = fs::canonicalize(&absolute).or_else(|_| fs::canonicalize(parent));
    if let (Ok(resolved), Ok(mounts)) = (resolved, fs::read_to_string("/proc/self/mounts"))
        && let Some(kind) = network(&resolved, &mounts)
    {
        return Err(OpenError::NetworkFileSystem {
            path: absolute,
            kind,
        });
    }
    Ok(absolute)
}

pub(super) fn read_only(path: &Path, reason: &str) -> OpenError {
    OpenError::ReadOnly {
        store: format!("SQLite at {}", path.display()),
        reason: reason.to_owned(),
    }
}

/// The type of the file system that holds `path`, if it is one of a network. `mounts` has the form
/// of `/proc/self/mounts`.
fn network(path: &Path, mounts: &str) -> Option<String> {
    let mut holder = None;
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (Some(_), Some(point), Some(kind)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let point = unescape(point);
        let depth = Path::new(&point).components().count();
        // Of two mounts at one point the later one is seen.
        if path.starts_with(&point) && holder.is_none_or(|(deepest, _)| depth >= deepest) {
            holder = Some((depth, kind));
        }
    }
    let (_, kind) = holder?;
    NETWORK.contains(&kind).then(|| kind.to_owned())
}

/// Spaces and the like are written as `\040`, in octal.
fn unescape(point: &str) -> String {
    let (mut bytes, mut rest) = (Vec::new(), point.as_bytes());
    while let [first, tail @ ..] = rest {
        let octal = tail.get(..3).and_then(|digits| str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
/dev/vda / ext4 rw,relatime 0 0
proc /proc proc rw 0 0
server:/export /data nfs4 rw 0 0
/dev/vdb /data/local ext4 rw 0 0
host:/x /with\\040space cifs rw 0 0
server:/old /over nfs rw 0 0
/dev/vdc /over xfs rw 0 0
";

    #[test]
    fn the_innermost_and_latest_mount_decides() {
        let kind = |path| network(Path::new(path), MOUNTS);
        assert_eq!(kind("/var/lib/casty.db"), None);
        assert_eq!(kind("/data/casty.db"), Some("nfs4".to_owned()));
        assert_eq!(kind("/database/casty.db"), None);
        assert_eq!(kind("/data/local/casty.db"), None);
        assert_eq!(kind("/with space/casty.db"), Some("cifs".to_owned()));
        assert_eq!(kind("/over/casty.db"), None);
    }
}
