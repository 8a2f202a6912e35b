//! The database's file: made, opened, found damaged, set aside, opened again after a fault of the disk.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use chrono::Utc;
use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase, ReadableTable};

use super::ENTRIES;
use super::rows::Rows;
use crate::util::{lasting, private};

/// Files that were set aside and are kept beside the database. A further one is not set aside, because a disk that damages files again and again is to
/// be looked at.
pub const MAX_SET_ASIDE: usize = 5;

/// What is done with a database that is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damaged {
    /// It is an error, because the operator is to decide.
    Refuse,
    /// It is renamed, and an empty one is made in its place.
    SetAside,
}

/// Why a database cannot be opened, read or written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// The database library or the disk says so.
    #[error("{0}")]
    Redb(Box<redb::Error>),
    /// It is not the database that was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It was there, and is not any more.
    #[error("it is gone")]
    Gone,
}

impl<E: Into<redb::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        let error = error.into();
        match &error {
            redb::Error::Corrupted(_)
            | redb::Error::TableTypeMismatch { .. }
            | redb::Error::TableIsMultimap(_)
            | redb::Error::TypeDefinitionChanged { .. } => Trouble::Damaged(error.to_string()),
            redb::Error::Io(io) if matches!(io.kind(), ErrorKind::InvalidData | ErrorKind::UnexpectedEof) => {
                Trouble::Damaged(error.to_string())
            }
            _ => Trouble::Redb(Box::new(error)),
        }
    }
}

/// Runs what uses the database. A panic there is damage, because the library trusts what it has written itself.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Trouble>) -> Result<T, Trouble> {
    // Whatever the work may have left half done belongs to a database that nobody uses any more.
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| Err(Trouble::Damaged(lasting::message_of(&*panic))))
}

/// Opens the database, which is made where there is none.
pub(super) fn open(path: &Path) -> Result<(Database, Rows), Trouble> {
    match open_again(path) {
        Err(Trouble::Gone) => {}
        opened => return opened,
    }
    // It gets its name when it is whole, so that a file without content is always a damaged one.
    let directory = path.parent().unwrap_or(Path::new("."));
    let new = tempfile::Builder::new().prefix(".state-").tempfile_in(directory).map_err(redb::Error::Io)?;
    let file = new.as_file().try_clone().map_err(redb::Error::Io)?;
    let database = guarded(|| {
        let database = Builder::new().create_with_backend(FileBackend::new(file)?)?;
        let transaction = database.begin_write()?;
        // The table must exist before it is read.
        transaction.open_table(ENTRIES)?;
        transaction.commit()?;
        Ok(database)
    })?;
    match new.persist_noclobber(path) {
        Ok(_) => {}
        // Another process was faster.
        Err(error) if error.error.kind() == ErrorKind::AlreadyExists => {
            drop(database);
            return open_again(path);
        }
        Err(error) => return Err(redb::Error::Io(error.error).into()),
    }
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(redb::Error::Io)?;
    Ok((database, Rows::default()))
}

/// Opens a database that must be there, and looks at all of it: what is not as it was written is found now, and not when it is used.
pub(super) fn open_again(path: &Path) -> Result<(Database, Rows), Trouble> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Err(Trouble::Gone),
        metadata => metadata.map_err(redb::Error::Io)?,
    };
    if !metadata.is_file() {
        return Err(redb::Error::Io(io::Error::other("it is no file")).into());
    }
    if metadata.len() == 0 {
        return Err(Trouble::Damaged("it is empty".into()));
    }
    // Before the database is open, because some systems take its locks away when another handle of the file is closed.
    private::close_to_others(&File::open(path).map_err(redb::Error::Io)?).map_err(redb::Error::Io)?;
    guarded(|| {
        let database = Builder::new().set_check_integrity_on_open(true).open(path)?;
        let transaction = database.begin_read()?;
        let mut rows = Rows::default();
        for entry in transaction.open_table(ENTRIES)?.iter()? {
            let (row, value) = entry?;
            // Texts are checked when they are looked at.
            let ((scope, key), _) = (row.value(), value.value());
            rows.add(scope, key);
        }
        drop(transaction);
        Ok((database, rows))
    })
}

/// Renames a damaged database. The new name, or why it stays where it is.
pub(super) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let prefix = format!("{name}.damaged-");
    let directory = path.parent().unwrap_or(Path::new("."));
    let earlier = fs::read_dir(directory)?
        .filter_map(|entry| Some(entry.ok()?.file_name()))
        .filter(|name| name.to_string_lossy().starts_with(&prefix))
        .count();
    if earlier >= MAX_SET_ASIDE {
        let what = format!("{MAX_SET_ASIDE} damaged ones are beside it already: look at the disk, then remove them");
        return Err(io::Error::other(what));
    }
    let aside = path.with_file_name(format!("{prefix}{}", Utc::now().format("%Y%m%dT%H%M%S%.3fZ")));
    fs::rename(path, &aside)?;
    Ok(aside)
}
