//! A steady stream of requests from a few clients, counted by who answered.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use crate::support::{Answer, PATIENCE, Server, agent};

#[derive(Default)]
struct Counted {
    answered: BTreeMap<String, usize>,
    failed: Vec<String>,
}

/// Clients that send one request after another until they are stopped.
pub(crate) struct Traffic {
    counted: Arc<(Mutex<Counted>, Condvar)>,
    stop: Arc<AtomicBool>,
    clients: Vec<JoinHandle<()>>,
}

impl Traffic {
    pub(crate) fn start(server: &Server, endpoint: &str, body: &str, clients: usize) -> Self {
        let counted = Arc::new((Mutex::new(Counted::default()), Condvar::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let uri = format!("{}/endpoints/{endpoint}/score", server.scoring);
        let credential = format!("Bearer {}", server.key(endpoint));
        let clients = (0..clients)
            .map(|client| {
                let (counted, stop) = (Arc::clone(&counted), Arc::clone(&stop));
                let (uri, credential, body) = (uri.clone(), credential.clone(), body.to_owned());
                std::thread::Builder::new()
                    .name(format!("client-{client}"))
                    .spawn(move || {
                        let agent = agent();
                        while !stop.load(Ordering::Relaxed) {
                            let outcome = agent
                                .post(&uri)
                                .header("authorization", &credential)
                                .send(&body)
                                .map(Answer::read);
                            let (counted, changed) = &*counted;
                            let mut counted = counted.lock().expect("no client panicked");
                            match outcome {
                                Ok(answer) if answer.status == 200 => {
                                    let by = answer
                                        .header("azureml-model-deployment")
                                        .expect("the deployment")
                                        .to_owned();
                                    *counted.answered.entry(by).or_default() += 1;
                                }
                                Ok(answer) => counted
                                    .failed
                                    .push(format!("{} {}", answer.status, answer.body)),
                                Err(error) => counted.failed.push(error.to_string()),
                            }
                            changed.notify_all();
                        }
                    })
                    .expect("a client")
            })
            .collect();
        Self {
            counted,
            stop,
            clients,
        }
    }

    pub(crate) fn answered_by(&self, deployment: &str) -> usize {
        self.counted
            .0
            .lock()
            .expect("no client panicked")
            .answered
            .get(deployment)
            .copied()
            .unwrap_or(0)
    }

    /// Waits until `requests` more have ended, well or not.
    pub(crate) fn passes(&self, requests: usize) {
        let (counted, changed) = &*self.counted;
        let ended =
            |counted: &Counted| counted.answered.values().sum::<usize>() + counted.failed.len();
        let guard = counted.lock().expect("no client panicked");
        let goal = ended(&guard) + requests;
        let (_guard, waited) = changed
            .wait_timeout_while(guard, PATIENCE, |counted| ended(counted) < goal)
            .expect("no client panicked");
        assert!(
            !waited.timed_out(),
            "{requests} requests did not end in {PATIENCE:?}"
        );
    }

    /// Ends the stream: requests answered, and what every other one said.
    pub(crate) fn stop(self) -> (usize, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        for client in self.clients {
            client.join().expect("a client ends");
        }
        let counted = std::mem::take(&mut *self.counted.0.lock().expect("no client panicked"));
        (counted.answered.values().sum(), counted.failed)
    }
}
