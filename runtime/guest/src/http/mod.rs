//! HTTP services: components that export `wasi:http/incoming-handler` (0.2) or `wasi:http/handler` (0.3).
//!
//! [`listen`] opens the port, [`serve`] accepts connections and ends them gracefully, on the threads of a [`pool`];
//! [`connection`] watches over one connection's time ([`activity`]), [`request`] over one request's limits, and [`handler`] hands it to a fresh
//! instance, by [`calls`] (WASI 0.2) or [`tasks`] (0.3). [`instances`] is what both make them from, and [`ticker`] makes endless ones stop.
//!
//! HTTP/1.1 and HTTP/2 without TLS (prior knowledge) are told apart by a connection's first bytes. Trailers of requests reach
//! the guest; those of responses reach HTTP/2 clients always, and HTTP/1.1 clients that say `TE: trailers` where the
//! response announces them (`Trailer: names`), as RFC 9110 section 6.5.1 has it and hyper does it. Bodies are streams both
//! ways. A client that goes away does not end its request's instance, which has its request's time.

mod activity;
mod body;
mod calls;
mod connection;
mod handler;
mod instances;
mod listen;
mod pool;
mod request;
mod serve;
mod tasks;
mod ticker;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use wasmtime::component::Component;
use wasmtime_wasi_http::{p2, p3};
use wisp_contract::facts::Kind;

use self::calls::Calls;
use self::handler::Handler;
use self::tasks::Tasks;
use crate::host::Host;
use crate::parts::{Parts, Run};
use crate::{exit, heap, signals};

/// An HTTP service, with its port opened but not yet listening.
pub(crate) fn service(parts: &Parts<'_>, component: &Component) -> Result<Run> {
    let host = Arc::new(Host::new(parts.plan, false)?);
    let linked = parts.link(component)?;
    let port = listen::open(host.env(), parts.plan.http.address)?;
    let main = pool::main().context("the reactor could not be made")?;
    let mut cpus = parts.cpus.subscribe();
    let settings = parts.plan.http.clone();
    let instances = Arc::new(instances::Instances {
        engine: parts.engine.clone(),
        host,
        budget: Arc::clone(&parts.budget),
        name: parts.program(),
        settings: settings.clone(),
        ticker: ticker::Ticker::start(parts.engine.clone()).context("no thread to measure time with")?,
        freed: Arc::default(),
    });
    let handler = match parts.plan.program.facts.kind {
        Kind::Http03 => Handler::Tasks(Tasks::new(instances, p3::bindings::ServicePre::new(linked)?)),
        _ => Handler::Calls(Calls::new(instances, p2::bindings::ProxyPre::new(linked)?)),
    };
    Ok(Box::new(move |start| {
        // Who creates the container is told meanwhile that it can be started.
        let threads = {
            let _main = main.enter();
            pool::Pool::new(pool::threads(*cpus.borrow_and_update()))
        };
        heap::give_back();
        start.wait();
        let served = signals::tell_instead_of_exit()
            .map_err(anyhow::Error::from)
            .and_then(|()| main.block_on(serve::serve(port, handler, settings, threads, cpus)));
        // What still runs has had its time.
        main.shutdown_background();
        match served {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => exit::unstarted(&error),
        }
    }))
}
