//! `https` for real: a server on this machine with a certificate that it made itself.
//!
//! Who trusts that certificate is answered, over TLS; who does not, and who asks for another name, is told that there was no
//! connection, and the server has seen no request.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use multiget::{
    Batcher, HttpLoader,
    http::{HttpErrorKind, HttpTransport},
    requests::{RequestError, Requests},
};
use reqwest::{Certificate, Client};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
    },
};

/// Answers `[{"id": "7"}]` to whoever gets so far, and counts them.
async fn server() -> (u16, Certificate, Arc<AtomicUsize>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let config = ServerConfig::builder().with_no_client_auth();
    let config = config.with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let (acceptor, listener) =
        (TlsAcceptor::from(Arc::new(config)), TcpListener::bind(("127.0.0.1", 0)).await.unwrap());
    let (port, seen) = (listener.local_addr().unwrap().port(), Arc::new(AtomicUsize::new(0)));
    let certificate = Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
    let counted = seen.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = vec![0; 4_096];
            let read = stream.read(&mut request).await.unwrap_or(0);
            if request[..read].starts_with(b"GET ") {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            let body = r#"[{"id":"7"}]"#;
            let head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\ncontent-length";
            let _gone = stream.write_all(format!("{head}: {}\r\n\r\n{body}", body.len()).as_bytes()).await;
            let _gone = stream.shutdown().await;
        }
    });
    (port, certificate, seen)
}

async fn ask(base: &str, client: Client) -> Result<Value, HttpErrorKind> {
    let loader = HttpLoader::<String, Value>::builder(base).repeat("id").list("", "/id");
    let loader = loader.transport(HttpTransport::with(client)).build().unwrap();
    assert!(!loader.check().to_string().contains("needs the feature"));
    let json = Batcher::builder().retry(multiget::Retry::new(1)).build(loader).unwrap();
    json.get("7".into()).await.map_err(|error| match error {
        multiget::Error::Load(error) => error.kind(),
        other => panic!("{other:?}"),
    })
}

#[tokio::test]
async fn a_loader_and_requests_speak_https_to_whom_they_trust_and_to_nobody_else() -> Result<(), Box<dyn Error>> {
    let (port, certificate, seen) = server().await;
    let (local, numeric) = (format!("https://localhost:{port}"), format!("https://127.0.0.1:{port}"));
    let trusting = Client::builder().tls_certs_only([certificate.clone()]).no_proxy().build()?;
    let found = ask(&local, trusting.clone()).await;
    assert_eq!((found.unwrap()["id"].as_str(), seen.load(Ordering::SeqCst)), (Some("7"), 1));
    // its certificate is for another name, and the system does not know it
    assert_eq!(ask(&numeric, trusting).await, Err(HttpErrorKind::Connect));
    assert_eq!(ask(&local, Client::builder().no_proxy().build()?).await, Err(HttpErrorKind::Connect));

    let requests = Requests::builder().client(move |client| client.tls_certs_only([certificate])).build()?;
    let mut run = requests.run([local.clone(), numeric]).ordered();
    assert_eq!(run.next().await.unwrap().result?.body(), br#"[{"id":"7"}]"#);
    assert!(matches!(run.next().await.unwrap().result, Err(RequestError::Connect(_))));
    let plain = Requests::builder().build()?;
    assert!(matches!(plain.run([local]).next().await.unwrap().result, Err(RequestError::Connect(_))));
    assert_eq!(seen.load(Ordering::SeqCst), 2, "the others got no further than the handshake");
    Ok(())
}
