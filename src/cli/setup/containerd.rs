//! containerd: `hosts.toml` for each registry, and the key of `config.toml` that makes it read
//! them. Source: containerd's `docs/hosts.md` and `core/remotes/docker/config/hosts.go`.

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, value};

use super::hosts;
use super::options::Options;
use super::setting::{About, MARK, Merge, Refusal, Setting};
use super::toml_tables::not_toml;
use super::version::Found;
use crate::cli::clients::{CRI_PLUGINS as PLUGINS, Version};

/// The first version that reads `hosts.toml`.
const FIRST: Version = Version(1, 5, 0);

/// The first version that knows files of version 3.
const SECOND_MAJOR: Version = Version(2, 0, 0);

/// The settings for containerd.
pub(super) fn setting(options: &Options, found: &Found) -> Result<Setting, Refusal> {
    if found.version.is_some_and(|version| version < FIRST) {
        return Err(Refusal::Useless(
            "containerd before 1.5 has only `registry.mirrors`, which always adds the registry \
             itself: nothing closes it but `immutag setup egress`, or a newer containerd"
                .to_owned(),
        ));
    }
    let mut setting = Setting::new("containerd");
    hosts::add(options, &mut setting)?;
    let config = config_toml(found.version, &options.hosts_dir);
    setting.file("/etc/containerd/config.toml", config, Merge::ContainerdConfig);
    note(found, options, &mut setting);
    Ok(setting)
}

fn note(found: &Found, options: &Options, setting: &mut Setting) {
    let version = match (found.version, found.by) {
        (Some(version), Some(by)) => format!("containerd {version} ({by})"),
        _ => {
            "containerd 2, assumed: no version was given or found; --version says which".to_owned()
        }
    };
    setting.note(About::Version, version);
    let programs = format!(
        "`ctr` reads this only with --hosts-dir {}; where `disabled_plugins` in config.toml names \
         cri, as Docker's packages have it, nothing else reads it but nerdctl",
        options.hosts_dir
    );
    setting.note(About::Open, programs);
    setting.note(
        About::Open,
        "`registry.mirrors` and `registry.configs` in config.toml, and files that its `imports` \
         names, can undo this: `containerd config dump` shows what holds, and config_path must be \
         one path there, without a colon",
    );
    setting.note(
        About::Then,
        "restart containerd if config.toml changed (`systemctl restart containerd`; containers go \
         on); hosts.toml files count at once",
    );
}

/// The whole `config.toml`, where there is none: the rest is by default.
fn config_toml(version: Option<Version>, hosts_dir: &str) -> String {
    let is_first = version.is_some_and(|version| version < SECOND_MAJOR);
    let (format, plugin) = if is_first { (2, PLUGINS[0]) } else { (3, PLUGINS[1]) };
    format!(
        "# {MARK} containerd`.\nversion = {format}\n\n\
         [plugins.\"{plugin}\".registry]\n  config_path = \"{hosts_dir}\"\n"
    )
}

/// Sets `config_path` in a `config.toml` that is there to the one in `ours`.
///
/// # Errors
/// Words, where that cannot be done without a loss, or where containerd would not start with it.
pub(super) fn merge(existing: &str, ours: &str) -> Result<String, String> {
    let mut document: DocumentMut = existing.parse().map_err(|error| not_toml(&error))?;
    let ours: DocumentMut = ours.parse().map_err(|error| format!("{error}"))?;
    if document.is_empty() {
        return Ok(format!("{existing}{ours}"));
    }
    let Some(format @ 2..) = document.get("version").and_then(Item::as_integer) else {
        return Err("it has no `version = 2` or later, so containerd would not know the table: \
                    migrate it (`containerd config migrate`)"
            .to_owned());
    };
    let plugin = PLUGINS[usize::from(format > 2)];
    if is_disabled(document.get("disabled_plugins").and_then(Item::as_array), plugin) {
        return Ok(existing.to_owned());
    }
    let hosts_dir = config_path_of(&ours).ok_or("there is no config_path to set")?;
    let registry = registry_table(&mut document, plugin)?;
    refuse_old_mirrors(registry)?;
    let found = registry.get("config_path").and_then(Item::as_str).unwrap_or_default();
    if found.trim_end_matches('/') == hosts_dir {
        return Ok(existing.to_owned());
    }
    if !found.is_empty() && !found.split(':').any(|path| path.trim_end_matches('/') == hosts_dir) {
        return Err(format!("its config_path is {found}: use that, with --hosts-dir {found}"));
    }
    set_config_path(registry, &hosts_dir);
    Ok(document.to_string())
}

/// Sets the key; indentation and comment of one that is there stay.
fn set_config_path(registry: &mut dyn TableLike, hosts_dir: &str) {
    match registry.get_mut("config_path").and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = hosts_dir.into();
            *old.decor_mut() = decor;
        }
        None => {
            registry.insert("config_path", value(hosts_dir));
        }
    }
}

/// Whether containerd runs without the plugin, as Docker's packages set it up: then nothing reads
/// the key, and `ctr` and nerdctl have their own.
fn is_disabled(disabled: Option<&Array>, plugin: &str) -> bool {
    let names = disabled.into_iter().flatten().filter_map(|name| name.as_str());
    names.into_iter().any(|name| name == "cri" || name == plugin || name == PLUGINS[0])
}

fn config_path_of(ours: &DocumentMut) -> Option<String> {
    let plugins = ours.get("plugins")?.as_table_like()?;
    let registry = plugins.iter().next()?.1.as_table_like()?.get("registry")?.as_table_like()?;
    Some(registry.get("config_path")?.as_str()?.to_owned())
}

/// The table `plugins.<plugin>.registry`, made where it is not.
fn registry_table<'d>(
    document: &'d mut DocumentMut,
    plugin: &str,
) -> Result<&'d mut dyn TableLike, String> {
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for key in ["plugins", plugin, "registry"] {
        let mut absent = Table::new();
        absent.set_implicit(key != "registry");
        let item = table.entry(key).or_insert(Item::Table(absent));
        table = item.as_table_like_mut().ok_or_else(|| format!("`{key}` is no table there"))?;
    }
    Ok(table)
}

/// Old mirrors go round immutag, and containerd does not start with them beside a `config_path`.
fn refuse_old_mirrors(registry: &dyn TableLike) -> Result<(), String> {
    let table = |key: &str| registry.get(key).and_then(Item::as_table_like);
    if table("mirrors").is_some_and(|mirrors| !mirrors.is_empty()) {
        return Err("it has `registry.mirrors`, with which containerd does not start beside \
                    config_path: remove them"
            .to_owned());
    }
    let configs = table("configs").into_iter().flat_map(TableLike::iter);
    let mut tables = configs.filter_map(|(_, config)| config.as_table_like());
    if tables.any(|config| config.contains_key("tls")) {
        return Err("it has `registry.configs` with `tls`, with which containerd does not start \
                    beside config_path: move them into hosts.toml files"
            .to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
