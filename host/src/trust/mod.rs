//! Signatures of module files, and the keys that they are compared with.
//!
//! A signature is one of [minisign](https://jedisct1.github.io/minisign/), in the last section of the file: a custom section with the name [`SECTION`] and the
//! text that minisign writes. It signs all bytes before that section. So file and signature are one: they are replaced in one step, have one digest, and travel together.
//! A file with such a section that is not its last has been changed after it was signed.
//!
//! This part knows bytes and keys. It does not know what a module is, or which files have to be signed.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use minisign_verify::{Error, PublicKey, Signature};

/// The name of the custom section.
pub const SECTION: &str = "minisign";
/// The most bytes of a signature's text: four lines, of which two are comments.
const MAX_SIGNATURE: usize = 16 << 10;
/// The most keys.
pub const MAX_KEYS: usize = 64;
/// What every WebAssembly file begins with, and its version.
const HEADER: usize = 8;

/// The keys that are known, by the names that the configuration gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(BTreeMap<String, Key>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    public: PublicKey,
    /// As it stands in the configuration.
    text: String,
}

/// By whom a file is signed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Signer {
    /// By nobody.
    #[default]
    None,
    /// By a key that is not known, of that id.
    Unknown(String),
    /// By a key that is known, whose public half this is.
    Known(String),
}

/// Why a signature is none. What is signed must not be run then, whether it had to be signed or not.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// It cannot be read.
    #[error("its signature cannot be read: {0}")]
    Malformed(String),
    /// It is a signature of other bytes.
    #[error("it was changed after it was signed: its signature is by the key `{0}`, and is not for these bytes")]
    Changed(String),
    /// There are bytes that it does not sign.
    #[error("it was changed after it was signed: something follows its signature")]
    Followed,
}

/// Why a text is not taken for a public key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoKey {
    /// It is none.
    #[error("it is no public key of minisign")]
    Foreign,
    /// There is one of the same id already.
    #[error("it has the same id as `{0}`: each key has one name")]
    Twice(String),
}

impl Keys {
    /// Adds a key: the second line of the file that minisign writes, or that file's text.
    ///
    /// # Errors
    /// [`NoKey`].
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), NoKey> {
        let text = text.trim();
        let text = text.lines().last().unwrap_or(text).trim();
        let public = PublicKey::from_base64(text).map_err(|_| NoKey::Foreign)?;
        let id = id_in(text);
        if let Some((other, _)) = self.0.iter().find(|(_, key)| id_in(&key.text) == id) {
            return Err(NoKey::Twice(other.clone()));
        }
        self.0.insert(name.to_owned(), Key { public, text: text.to_owned() });
        Ok(())
    }

    /// Whether there is a key of that name.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// The names of all keys.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The name of the key that has signed; absent where nobody has who is known now.
    pub fn name_of(&self, signer: &Signer) -> Option<&str> {
        let Signer::Known(text) = signer else { return None };
        self.0.iter().find(|(_, key)| key.text == *text).map(|(name, _)| name.as_str())
    }

    /// By whom a file is signed.
    ///
    /// # Errors
    /// [`SignatureError`] where it has a signature that is none.
    pub fn signer(&self, bytes: &[u8]) -> Result<Signer, SignatureError> {
        let Some((signed, text)) = split(bytes)? else { return Ok(Signer::None) };
        let malformed = |why: &dyn fmt::Display| SignatureError::Malformed(why.to_string());
        let text = std::str::from_utf8(text).map_err(|why| malformed(&why))?;
        let signature = Signature::decode(text).map_err(|why| malformed(&why))?;
        for (name, key) in &self.0 {
            match key.public.verify(signed, &signature, false) {
                Ok(()) => return Ok(Signer::Known(key.text.clone())),
                Err(Error::UnexpectedKeyId) => {}
                Err(Error::InvalidSignature) => return Err(SignatureError::Changed(name.clone())),
                Err(why) => return Err(malformed(&why)),
            }
        }
        Ok(Signer::Unknown(key_id(text).unwrap_or_default()))
    }
}

/// The id of the key that a signature says it is by, as minisign shows it.
fn key_id(signature: &str) -> Option<String> {
    id_in(signature.lines().nth(1)?)
}

/// The id in a line of minisign's: of a key, or of a signature.
fn id_in(line: &str) -> Option<String> {
    let line = BASE64_STANDARD.decode(line).ok()?;
    let id: [u8; 8] = line.get(2..10)?.try_into().ok()?;
    Some(format!("{:016X}", u64::from_le_bytes(id)))
}

/// What is signed, and the text of the signature.
type Split<'a> = (&'a [u8], &'a [u8]);

/// The two parts of a file; absent where there is none. A file that cannot be read so far has none: whoever parses it says what is wrong.
fn split(bytes: &[u8]) -> Result<Option<Split<'_>>, SignatureError> {
    let mut at = HEADER;
    while at < bytes.len() {
        let begins = at;
        let Some((size, content)) = length(bytes, at + 1) else { return Ok(None) };
        let Some(section) = content.checked_add(size).and_then(|end| bytes.get(content..end)) else { return Ok(None) };
        at = content + size;
        let Some(text) = (bytes[begins] == 0).then(|| named(section)).flatten() else { continue };
        if at != bytes.len() {
            return Err(SignatureError::Followed);
        }
        if text.len() > MAX_SIGNATURE {
            return Err(SignatureError::Malformed(format!("it has {} bytes", text.len())));
        }
        return Ok(Some((&bytes[..begins], text)));
    }
    Ok(None)
}

/// What a custom section holds, if it has the name of signatures.
fn named(section: &[u8]) -> Option<&[u8]> {
    let (size, name) = length(section, 0)?;
    let end = name.checked_add(size)?;
    (section.get(name..end)? == SECTION.as_bytes()).then(|| &section[end..])
}

/// A length in LEB128, and where what follows it begins.
fn length(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut value = 0_u64;
    for (place, byte) in bytes.get(at..)?.iter().take(5).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, at + place + 1));
        }
    }
    None
}

/// A file without its signature.
///
/// # Errors
/// [`SignatureError::Followed`] where it does not end with it.
pub fn unsigned(bytes: &[u8]) -> Result<&[u8], SignatureError> {
    Ok(split(bytes)?.map_or(bytes, |(signed, _)| signed))
}

/// A file with a signature, which minisign has written of [`unsigned`].
pub fn signed(unsigned: &[u8], signature: &str) -> Vec<u8> {
    let mut section = Vec::new();
    put_length(SECTION.len(), &mut section);
    section.extend_from_slice(SECTION.as_bytes());
    section.extend_from_slice(signature.as_bytes());
    let mut file = unsigned.to_vec();
    file.push(0);
    put_length(section.len(), &mut file);
    file.extend(section);
    file
}

fn put_length(mut length: usize, to: &mut Vec<u8>) {
    loop {
        let byte = (length & 0x7f) as u8;
        length >>= 7;
        if length == 0 {
            return to.push(byte);
        }
        to.push(byte | 0x80);
    }
}

#[cfg(test)]
mod tests {
    use minisign::KeyPair;

    use super::*;

    /// An empty component, and a custom section of another name.
    const FILE: &[u8] = b"\0asm\x0d\0\x01\0\0\x05\x04test";

    fn sign(pair: &KeyPair, bytes: &[u8]) -> Vec<u8> {
        let signature = minisign::sign(Some(&pair.pk), &pair.sk, bytes, None, None).unwrap();
        signed(unsigned(bytes).unwrap(), &signature.into_string())
    }

    #[test]
    fn a_signed_file_is_known_by_its_key_and_no_byte_of_it_can_be_changed() {
        let [ann, bob] = [(); 2].map(|()| KeyPair::generate_unencrypted_keypair().unwrap());
        let mut keys = Keys::default();
        keys.add("ann", &ann.pk.to_box().unwrap().into_string()).unwrap();
        let file = sign(&ann, FILE);
        let Signer::Known(text) = keys.signer(&file).unwrap() else { panic!("it is by ann") };
        assert_eq!(
            (text.as_str(), keys.name_of(&Signer::Known(text.clone()))),
            (ann.pk.to_base64().as_str(), Some("ann"))
        );
        assert_eq!(unsigned(&file).unwrap(), FILE);
        assert!(wasmparser::Validator::new().validate_all(&file).is_ok(), "it is still a component");
        assert_eq!(keys.signer(FILE), Ok(Signer::None));
        let Ok(Signer::Unknown(id)) = keys.signer(&sign(&bob, FILE)) else { panic!("it is by bob") };
        assert_eq!(id, format!("{:016X}", u64::from_le_bytes(bob.pk.keynum().try_into().unwrap())));
        for at in 0..FILE.len() {
            let mut changed = file.clone();
            changed[at] ^= 1;
            assert!(!matches!(keys.signer(&changed), Ok(Signer::Known(_))), "byte {at}");
        }
        let mut changed = file.clone();
        changed[FILE.len() - 1] ^= 1;
        assert_eq!(keys.signer(&changed), Err(SignatureError::Changed("ann".into())));
        // More at its end, be it signed by somebody else.
        assert_eq!(keys.signer(&[&file[..], b"\0\x05\x04more"].concat()), Err(SignatureError::Followed));
        let twice = signed(&file, "untrusted comment: x");
        assert_eq!(keys.signer(&twice), Err(SignatureError::Followed));
        // Whose key is known no longer is unknown.
        assert_eq!(Keys::default().name_of(&Signer::Known(text)), None);
    }

    #[test]
    fn what_is_no_signature_and_no_key_is_said_so() {
        let mut keys = Keys::default();
        assert_eq!(keys.add("a", "RWQ"), Err(NoKey::Foreign));
        assert_eq!(keys.add("a", ""), Err(NoKey::Foreign));
        let key = KeyPair::generate_unencrypted_keypair().unwrap().pk.to_base64();
        assert_eq!(Keys::default().add("a", &key), Ok(()));
        let mut twice = Keys::default();
        twice.add("a", &key).unwrap();
        assert_eq!(twice.add("b", &key), Err(NoKey::Twice("a".into())));
        for text in ["", "one line", "a\nb\nc\nd"] {
            let error = keys.signer(&signed(FILE, text)).unwrap_err();
            assert!(matches!(error, SignatureError::Malformed(_)), "{error}");
        }
        let long = keys.signer(&signed(FILE, &"x".repeat(MAX_SIGNATURE + 1))).unwrap_err();
        assert_eq!(long.to_string(), "its signature cannot be read: it has 16385 bytes");
        // What is no WebAssembly, or is cut off, is not this part's affair.
        for bytes in
            [&b""[..], b"\0asm", b"some text", &FILE[..FILE.len() - 1], b"\0asm\x0d\0\x01\0\0\xff\xff\xff\xff\xff"]
        {
            assert_eq!(keys.signer(bytes), Ok(Signer::None));
        }
    }
}
