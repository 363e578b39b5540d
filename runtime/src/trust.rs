//! Whom a client believes to be who they say they are, by certificates (https).
//!
//! Not here: connections (`load::link`, `control::rollouts::hooks`).

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};

/// The authorities by whose certificates servers are known.
#[derive(Clone)]
pub struct Trust(Arc<ClientConfig>);

/// The reason why there are none.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be read, or is none of certificates.
    #[error("expected certificates as PEM: {0}")]
    File(#[from] rustls::pki_types::pem::Error),
    /// The file has none.
    #[error("expected certificates as PEM, found none")]
    Empty,
    /// A certificate is of no authority, or the library refuses.
    #[error(transparent)]
    Tls(#[from] rustls::Error),
    /// The system has none.
    #[error("the system has no certificates of authorities{}: SSL_CERT_FILE names others", .0)]
    System(String),
    /// The host is no name or address.
    #[error("expected a name or an address in a certificate, found {0:?}")]
    Name(String),
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust")
    }
}

impl Trust {
    /// The authorities that this system trusts.
    ///
    /// # Errors
    ///
    /// [`TrustError::System`].
    pub fn of_system() -> Result<Self, TrustError> {
        let found = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        let (added, _) = roots.add_parsable_certificates(found.certs);
        if added == 0 {
            let why = found.errors.first();
            let why = why.map_or_else(String::new, |error| format!(" ({error})"));
            return Err(TrustError::System(why));
        }
        Self::of(roots)
    }

    /// The authorities in a file, and no others.
    ///
    /// # Errors
    ///
    /// [`TrustError`].
    pub fn of_file(path: &Path) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_file_iter(path)? {
            roots.add(certificate?)?;
        }
        match roots.is_empty() {
            true => Err(TrustError::Empty),
            false => Self::of(roots),
        }
    }

    fn of(roots: RootCertStore) -> Result<Self, TrustError> {
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(Arc::new(config)))
    }

    /// What a session is made with.
    pub(crate) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.0)
    }
}

/// The name that a host has in its certificate: an address of IPv6 has no brackets there.
///
/// # Errors
///
/// [`TrustError::Name`].
pub(crate) fn name_in_certificates(host: &str) -> Result<ServerName<'static>, TrustError> {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(bare.to_owned());
    name.map_err(|_| TrustError::Name(host.to_owned()))
}
