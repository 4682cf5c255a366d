//! TLS as the modes of PostgreSQL's and MySQL's clients mean it.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use super::session::{Fault, SqlError, SqlResult, read_certificates};
use crate::platform::kylin::database::{Tls, TlsMode};

/// Returns how a connection is to be encrypted, for the driver of PostgreSQL. That of MySQL brings its own.
pub(super) fn client_config(tls: &Tls) -> SqlResult<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let other = |error: &dyn std::fmt::Display| SqlError {
        fault: Fault::Other,
        message: format!("cannot set up TLS: {error}"),
    };
    let checks = match tls.mode {
        TlsMode::Off | TlsMode::Prefer | TlsMode::Require => Checks::Nothing,
        TlsMode::Verify | TlsMode::VerifyFull => {
            let roots = Arc::new(roots(tls)?);
            let verifier = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
            let verifier = verifier.build().map_err(|e| other(&e))?;
            if tls.mode == TlsMode::Verify { Checks::Chain(verifier) } else { Checks::ChainAndHost(verifier) }
        }
    };
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions();
    let verifier = Arc::new(Verifier { checks, provider });
    let builder = builder.map_err(|e| other(&e))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth())
}

/// Returns the certificates that are trusted: those of the file that is named, else those of the system.
fn roots(tls: &Tls) -> SqlResult<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match &tls.root_certificate {
        Some(path) => {
            let pem = read_certificates(path)?;
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let added = certificate.ok().map(|certificate| roots.add(certificate));
                if !matches!(added, Some(Ok(()))) {
                    let message = format!("{} holds something else than certificates in PEM", path.display());
                    return Err(SqlError { fault: Fault::Other, message });
                }
            }
        }
        // What of the system's can't be read is not trusted, no more.
        None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
    }
    if roots.is_empty() {
        let message = "there is no root certificate to verify the server with".to_owned();
        return Err(SqlError { fault: Fault::Other, message });
    }
    Ok(roots)
}

#[derive(Debug)]
enum Checks {
    /// Whoever answers is believed: against listeners only, as `sslmode=require` is.
    Nothing,
    /// The certificate must come from a trusted root, for whatever name.
    Chain(Arc<WebPkiServerVerifier>),
    /// It must be for the host, too.
    ChainAndHost(Arc<WebPkiServerVerifier>),
}

#[derive(Debug)]
struct Verifier {
    checks: Checks,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verify = |verifier: &WebPkiServerVerifier| {
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
        };
        match &self.checks {
            Checks::Nothing => Ok(ServerCertVerified::assertion()),
            Checks::ChainAndHost(verifier) => verify(verifier),
            // The name is looked at last, when all else was found in order.
            Checks::Chain(verifier) => match verify(verifier) {
                Err(rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                )) => Ok(ServerCertVerified::assertion()),
                result => result,
            },
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
