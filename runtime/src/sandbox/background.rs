//! Where guests go on that compute for long: threads of low priority, so that a request that needs
//! microseconds never waits behind one that needs milliseconds.

use std::future::Future;
use std::io;

use rustix::process::{Pid, setpriority_process};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinHandle;

/// A thread of this niceness gets a seventieth of what one of the normal has, and all that it leaves.
const NICENESS: i32 = 19;

/// The threads, one per core. Ends them when dropped.
pub struct Background {
    handle: Handle,
    runtime: Option<Runtime>,
}

impl Background {
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .thread_name("background")
            .enable_all()
            .on_thread_start(|| {
                // Without it they are only less polite; Linux takes the calling thread for process 0.
                let _refused = setpriority_process(None::<Pid>, NICENESS);
            })
            .build()?;
        Ok(Self { handle: runtime.handle().clone(), runtime: Some(runtime) })
    }

    /// Goes on with a guest there.
    pub fn spawn<F: Future<Output: Send> + Send + 'static>(&self, guest: F) -> JoinHandle<F::Output> {
        self.handle.spawn(guest)
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // The last owner may be a task of this or another runtime, where blocking is forbidden.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
