//! The socket's file: where it is put, and how others are kept from it.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::net::UnixListener;

/// Name of the socket.
const NAME: &str = "control.sock";
/// The longest path of a socket, bytes: the kernel's field for it has 108, with the zero byte at the end.
const MAX_PATH: usize = 107;

/// A socket that listens, and its file, which is removed when this is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    /// The directory of its own, if the socket is not in the directory that was asked for.
    _own: Option<TempDir>,
}

impl Socket {
    /// Listens in `dir`, which must be absolute. If the socket's path would be too long, it listens in a temporary directory of its own.
    pub(super) fn listen(dir: &Path) -> io::Result<(Socket, UnixListener)> {
        // `place` binds at a longer path than the socket has in the end.
        let fits = |dir: &Path| dir.as_os_str().len() + "/.control-XXXXXX/s".len() <= MAX_PATH;
        if fits(dir) {
            let (path, listener) = place(dir)?;
            return Ok((Socket { path, _own: None }, listener));
        }
        let own = tempfile::Builder::new().prefix("pomelo-").tempdir()?;
        if !fits(own.path()) {
            let what =
                format!("the path of a socket has at most {MAX_PATH} bytes, {} is too long", own.path().display());
            return Err(io::Error::new(io::ErrorKind::InvalidFilename, what));
        }
        let (path, listener) = place(own.path())?;
        Ok((Socket { path, _own: Some(own) }, listener))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// Binds a socket in a private directory, makes it this user's alone, and moves it to its place, because it must never be open to others there. The
/// move replaces a socket that a killed host left behind.
fn place(dir: &Path) -> io::Result<(PathBuf, UnixListener)> {
    let private = tempfile::Builder::new().prefix(".control-").tempdir_in(dir)?;
    let bound = private.path().join("s");
    let listener = UnixListener::bind(&bound)?;
    std::fs::set_permissions(&bound, Permissions::from_mode(0o600))?;
    let path = dir.join(NAME);
    std::fs::rename(bound, &path)?;
    Ok((path, listener))
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The file may have been removed already.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixStream;

    use super::*;

    #[tokio::test]
    async fn a_socket_is_its_users_alone_replaces_a_stale_one_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(NAME), "stale").unwrap();
        let (socket, _listener) = Socket::listen(dir.path()).unwrap();
        assert_eq!(socket.path(), dir.path().join(NAME));
        assert_eq!(std::fs::metadata(socket.path()).unwrap().permissions().mode() & 0o777, 0o600);
        UnixStream::connect(socket.path()).await.unwrap();
        drop(socket);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_path_too_long_for_a_socket_is_avoided() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("d".repeat(100));
        std::fs::create_dir(&deep).unwrap();
        let (socket, _listener) = Socket::listen(&deep).unwrap();
        UnixStream::connect(socket.path()).await.unwrap();
        assert!(socket.path().as_os_str().len() <= MAX_PATH && !socket.path().starts_with(&deep));
        let own = socket.path().parent().unwrap().to_owned();
        drop(socket);
        assert!(!own.exists());
    }
}
