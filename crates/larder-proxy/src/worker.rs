//! A worker: one thread, one single-threaded runtime, the sessions dealt to it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use larder_cache::Store;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::LocalSet;

use crate::metrics::WorkerMetrics;
use crate::plan::Plans;
use crate::reply::Answer;
use crate::session::Control;
use crate::{ProxyConfig, Shared, startup};

/// What the sessions of one worker share.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) config: Arc<ProxyConfig>,
    pub(crate) shared: Shared,
    pub(crate) store: Arc<Store<Answer>>,
    pub(crate) metrics: Arc<WorkerMetrics>,
    pub(crate) plans: RefCell<Plans>,
    pub(crate) origin_reachable: Arc<AtomicBool>,
}

/// What the acceptor sends to a worker.
#[derive(Debug)]
pub(crate) enum Order {
    /// A new client; `false`: there are too many, say so.
    Serve(std::net::TcpStream, bool),
    /// Sessions leave when they are between transactions.
    Drain,
    /// Close what is left and stop.
    Stop,
}

impl Worker {
    /// Runs until told to stop.
    pub(crate) async fn run(self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let worker = Rc::new(self);
        let sessions = LocalSet::new();
        let controls: Rc<RefCell<Vec<Rc<Control>>>> = Rc::default();
        sessions
            .run_until(async {
                let mut draining = false;
                while let Some(order) = orders.recv().await {
                    match order {
                        Order::Serve(socket, welcome) => {
                            let Ok(socket) = TcpStream::from_std(socket) else {
                                worker.leave();
                                continue;
                            };
                            let control = Rc::new(Control::default());
                            control.drain.set(draining);
                            controls.borrow_mut().push(Rc::clone(&control));
                            let (worker, controls) = (Rc::clone(&worker), Rc::clone(&controls));
                            tokio::task::spawn_local(async move {
                                // Counted down even if the task is dropped.
                                let _seat = Seat {
                                    worker: Rc::clone(&worker),
                                    controls,
                                    control: Rc::clone(&control),
                                };
                                if let Some(session) = startup::open(worker, control, socket, welcome).await {
                                    session.run().await;
                                }
                            });
                        }
                        Order::Drain => {
                            draining = true;
                            for control in controls.borrow().iter() {
                                control.drain.set(true);
                                if let Some(waker) = control.waker.borrow().as_ref() {
                                    waker.wake_by_ref();
                                }
                            }
                        }
                        Order::Stop => break,
                    }
                }
            })
            .await;
    }

    fn leave(&self) {
        self.metrics.clients.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A client's place among the worker's clients.
struct Seat {
    worker: Rc<Worker>,
    controls: Rc<RefCell<Vec<Rc<Control>>>>,
    control: Rc<Control>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.controls.borrow_mut().retain(|control| !Rc::ptr_eq(control, &self.control));
        self.worker.leave();
    }
}

impl ProxyConfig {
    /// A time to live shortened by up to the configured share, so that answers stored together do not expire together.
    pub(crate) fn jittered(&self, ttl: Duration) -> Duration {
        ttl.mul_f64(1.0 - self.ttl_jitter.clamp(0.0, 1.0) * fastrand::f64())
    }
}
