//! `file.wasm#export`: one export, called with the container's arguments.
//!
//! A core function takes its arguments as numbers by type and its results are printed one a line. A component's function takes
//! them as WAVE (WebAssembly Value Encoding) and its result is printed as WAVE.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail, ensure};
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, ComponentExportIndex, Val as WaveVal};
use wasmtime::{ExternType, Module, Val, ValType};
use wisp_contract::counters::Counter;
use wisp_contract::plan::Plan;

use crate::command::{link_module, never_interrupted, runtime};
use crate::host::Host;
use crate::parts::{Parts, Run};

/// A core function.
pub(crate) fn module(parts: &Parts<'_>, module: &Module, name: &str) -> Result<Run> {
    let Some(ExternType::Func(ty)) = module.get_export(name) else {
        return Err(no_such_export(parts.plan, name));
    };
    let signature = signature(parts.plan, name);
    let given = arguments(parts.plan);
    check_count(name, signature, given.len(), ty.params().len())?;
    let params = ty
        .params()
        .zip(given)
        .map(|(ty, text)| number(&ty, text).with_context(|| format!("{name} is {signature}")))
        .collect::<Result<Vec<_>>>()?;
    let mut results = vec![Val::I32(0); ty.results().len()];

    let (runtime, mut store, linked) = link_module(parts, module)?;
    let (end, budget, name) = (parts.end()?, Arc::clone(&parts.budget), name.to_owned());
    Ok(Box::new(move |start| {
        start.wait();
        let result = runtime.block_on(async {
            budget.counters().add(Counter::Instances, 1);
            let instance = linked.instantiate_async(&mut store).await?;
            if let Ok(initialize) = instance.get_typed_func::<(), ()>(&mut store, "_initialize") {
                initialize.call_async(&mut store, ()).await?;
            }
            let func = instance
                .get_func(&mut store, &name)
                .ok_or_else(|| wasmtime::format_err!("{name} is not a function"))?;
            func.call_async(&mut store, &params, &mut results).await?;
            print(results.iter().map(show))
        });
        end.exit(result, runtime)
    }))
}

/// A component's function, at its top level or in an interface.
pub(crate) fn component(parts: &Parts<'_>, component: &Component, name: &str) -> Result<Run> {
    let (full_name, index, ty) =
        find(parts.plan, component, name).ok_or_else(|| no_such_export(parts.plan, name))?;
    let signature = signature(parts.plan, &full_name);
    let given = arguments(parts.plan);
    check_count(name, signature, given.len(), ty.params().len())?;
    let params = ty
        .params()
        .zip(given)
        .map(|((parameter, ty), text)| {
            WaveVal::from_wave(&ty, text).map_err(|error| {
                anyhow!(
                    "{name} is {signature} and cannot take {text:?} as its {parameter} ({error:#}); WAVE was expected, \
                     for instance 42, true, \"text\" or {{x: 1}}"
                )
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let mut results = vec![WaveVal::Bool(false); ty.results().len()];

    let host = Arc::new(Host::new(parts.plan, true)?);
    let linked = parts.link(component)?;
    let (runtime, mut store) = (runtime()?, host.store(&parts.engine, &parts.budget));
    never_interrupted(&mut store);
    let (end, budget) = (parts.end()?, Arc::clone(&parts.budget));
    Ok(Box::new(move |start| {
        start.wait();
        let result = runtime.block_on(async {
            budget.counters().add(Counter::Instances, 1);
            let instance = linked.instantiate_async(&mut store).await?;
            let func = instance
                .get_func(&mut store, index)
                .ok_or_else(|| wasmtime::format_err!("{full_name} is not a function"))?;
            func.call_async(&mut store, &params, &mut results).await?;
            // What WAVE has no words for (resources, streams) is shown as well as can be.
            print(results.iter().map(|value| value.to_wave().unwrap_or_else(|_| format!("{value:?}"))))
        });
        end.exit(result, runtime)
    }))
}

/// The container's arguments without the program's name.
fn arguments(plan: &Plan) -> Vec<&str> {
    plan.args.iter().skip(1).map(String::as_str).collect()
}

fn signature<'a>(plan: &'a Plan, name: &str) -> &'a str {
    let export = plan.program.facts.exports.iter().find(|export| export.name == name);
    export.and_then(|export| export.signature.as_deref()).unwrap_or("a function")
}

/// Finds `func`, `ns:pkg/iface.func` or `ns:pkg/iface@1.0.0.func`; the version may be left out.
fn find(
    plan: &Plan,
    component: &Component,
    name: &str,
) -> Option<(String, ComponentExportIndex, wasmtime::component::types::ComponentFunc)> {
    let as_function =
        |instance: Option<&ComponentExportIndex>, name: &str| match component.get_export(instance, name)? {
            (ComponentItem::ComponentFunc(ty), index) => Some((index, ty)),
            _ => None,
        };
    if let Some((index, ty)) = as_function(None, name) {
        return Some((name.to_owned(), index, ty));
    }
    let interfaces = plan.program.facts.exports.iter().filter(|export| export.signature.is_none());
    for interface in interfaces {
        let without_version = interface.name.split('@').next().unwrap_or_default();
        let function = [interface.name.as_str(), without_version]
            .into_iter()
            .find_map(|prefix| name.strip_prefix(prefix)?.strip_prefix('.'));
        if let Some(function) = function {
            let (_, instance) = component.get_export(None, interface.name.as_str())?;
            let (index, ty) = as_function(Some(&instance), function)?;
            return Some((format!("{}.{function}", interface.name), index, ty));
        }
    }
    None
}

/// A core value from text: integers may be signed or unsigned, as they have no sign of their own.
fn number(ty: &ValType, text: &str) -> Result<Val> {
    let value = match ty {
        ValType::I32 => {
            text.parse().or_else(|_| text.parse::<u32>().map(u32::cast_signed)).ok().map(Val::I32)
        }
        ValType::I64 => {
            text.parse().or_else(|_| text.parse::<u64>().map(u64::cast_signed)).ok().map(Val::I64)
        }
        ValType::F32 => text.parse::<f32>().ok().map(Val::from),
        ValType::F64 => text.parse::<f64>().ok().map(Val::from),
        ValType::V128 => text.parse::<u128>().ok().map(|bits| Val::V128(bits.into())),
        ValType::Ref(_) => bail!("a reference cannot be given as an argument"),
    };
    value.with_context(|| format!("{text:?} is not one of {ty}; a number was expected"))
}

fn show(value: &Val) -> String {
    match value {
        Val::I32(value) => value.to_string(),
        Val::I64(value) => value.to_string(),
        Val::F32(bits) => f32::from_bits(*bits).to_string(),
        Val::F64(bits) => f64::from_bits(*bits).to_string(),
        Val::V128(value) => value.as_u128().to_string(),
        reference => format!("{reference:?}"),
    }
}

/// Prints values one a line. A reader that went away ends a program that prints.
fn print(values: impl Iterator<Item = String>) -> wasmtime::Result<()> {
    let mut stdout = std::io::stdout().lock();
    for value in values {
        writeln!(stdout, "{value}")?;
    }
    Ok(stdout.flush()?)
}

/// The sentence for an export that is not there, with those that are.
fn no_such_export(plan: &Plan, name: &str) -> anyhow::Error {
    let callable: Vec<_> =
        plan.program.facts.exports.iter().filter(|export| export.signature.is_some()).collect();
    let listed = callable.iter().take(10).map(|export| export.name.as_str()).collect::<Vec<_>>().join(", ");
    let more = if callable.len() > 10 { ", …" } else { "" };
    anyhow!("{} has no function {name:?}; one of its exports was expected: {listed}{more}", plan.program.path)
}

/// Checks a count of arguments against a signature.
fn check_count(name: &str, signature: &str, given: usize, wanted: usize) -> Result<()> {
    ensure!(
        given == wanted,
        "{name} is {signature} and was given {given} argument{}; {wanted} were expected",
        if given == 1 { "" } else { "s" }
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_taken_with_and_without_a_sign() {
        assert!(matches!(number(&ValType::I32, "-1"), Ok(Val::I32(-1))));
        assert!(matches!(number(&ValType::I32, "4294967295"), Ok(Val::I32(-1))));
        assert!(matches!(number(&ValType::I64, "18446744073709551615"), Ok(Val::I64(-1))));
        assert!(number(&ValType::I32, "4294967296").is_err());
        assert!(number(&ValType::F64, "one").is_err());
    }

    #[test]
    fn results_are_shown_as_numbers() {
        assert_eq!(show(&Val::from(1.5f64)), "1.5");
        assert_eq!(show(&Val::I64(-7)), "-7");
    }
}
