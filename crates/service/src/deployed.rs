//! The deployment in force, which a reload of the configuration may change while its readers run.

use std::sync::Arc;

use tokio::sync::watch;

use crate::deployment::Deployment;

/// Reads the deployment in force. Ask anew for each request or round: what was asked before goes on being valid, and
/// may be old.
#[derive(Clone, Debug)]
pub struct Deployed(watch::Receiver<Arc<Deployment>>);

/// Puts another deployment in force, for all its readers at once.
#[derive(Debug)]
pub struct Deploys(watch::Sender<Arc<Deployment>>);

impl Deployed {
    /// The one in force.
    #[must_use]
    pub fn now(&self) -> Arc<Deployment> {
        Arc::clone(&self.0.borrow())
    }

    /// Waits until there is another one than when this was last asked; for ever, if nothing can change it.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl From<Arc<Deployment>> for Deployed {
    /// One that never changes.
    fn from(deployment: Arc<Deployment>) -> Self {
        Self(watch::Sender::new(deployment).subscribe())
    }
}

impl Deploys {
    /// Begins with this one.
    #[must_use]
    pub fn new(deployment: Arc<Deployment>) -> Self {
        Self(watch::Sender::new(deployment))
    }

    /// A reader.
    #[must_use]
    pub fn deployed(&self) -> Deployed {
        Deployed(self.0.subscribe())
    }

    /// Puts `deployment` in force.
    pub fn put(&self, deployment: Arc<Deployment>) {
        self.0.send_replace(deployment);
    }
}
