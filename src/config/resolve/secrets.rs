//! Our own credentials, from wherever they are kept. No message quotes a secret.

use std::path::Path;

use docker_credential::{CredentialRetrievalError, DockerCredential, get_credential_from_reader};

use super::Report;
use crate::config::problem::KeyPath;
use crate::config::raw::{RawSecret, RawUpstream};
use crate::config::resolved::Credentials;
use crate::config::secret_file::read_secret_file;
use crate::oci::Registry;
use crate::secret::Secret;

/// Our own credentials for the upstream `name`; `None` after a problem.
pub(super) fn own(
    raw: &RawUpstream,
    name: &Registry,
    path: &KeyPath,
    report: &mut Report<'_>,
) -> Option<Credentials> {
    let result = match (&raw.username, &raw.password, &raw.password_file, &raw.docker_config) {
        (Some(user), Some(password), None, None) => {
            return variable(user, password, path, report);
        }
        (Some(user), None, Some(file), None) => {
            let key = path.key("password-file");
            let file = report.absolute(&key, file);
            read_password(&file).map(|password| own_of(user, password)).map_err(|why| (key, why))
        }
        (None, None, None, Some(file)) => {
            let key = path.key("docker-config");
            let file = report.absolute(&key, file);
            read_docker_config(&file, name).map_err(|why| (key, why))
        }
        _ => {
            let message = "credentials = \"own\" wants username with password-file (or with \
                           password, in IMMUTAG__UPSTREAM), or docker-config alone";
            Err((path.key("credentials"), message.to_owned()))
        }
    };
    result.map_err(|(key, message)| report.add(&key, message)).ok()
}

fn own_of(username: &str, password: Secret) -> Credentials {
    Credentials::Own { username: username.to_owned(), password }
}

fn variable(
    username: &str,
    RawSecret(password): &RawSecret,
    path: &KeyPath,
    report: &mut Report<'_>,
) -> Option<Credentials> {
    let key = path.key("password");
    if !report.is_variable(&key) {
        let message = "a password does not belong in this file: put it into a file of its own \
                       (password-file), or the whole table into IMMUTAG__UPSTREAM";
        report.add(&key, message);
        return None;
    }
    let password = check(password.expose()).map_err(|message| report.add(&key, message)).ok()?;
    Some(own_of(username, password))
}

fn read_password(file: &Path) -> Result<Secret, String> {
    let text = read_secret_file(file)?;
    check(text.trim_end_matches(['\r', '\n']))
        .map_err(|message| format!("{}: {message}", file.display()))
}

fn check(password: &str) -> Result<Secret, String> {
    if password.is_empty() {
        return Err("the password is empty".to_owned());
    }
    if password.chars().any(char::is_control) {
        return Err("the password has control characters or more than one line".to_owned());
    }
    Ok(Secret::new(password.to_owned()))
}

fn read_docker_config(file: &Path, registry: &Registry) -> Result<Credentials, String> {
    let text = read_secret_file(file)?;
    let named = file.display();
    let mut last = CredentialRetrievalError::NoCredentialConfigured;
    for server in servers(registry) {
        match get_credential_from_reader(text.as_bytes(), &server) {
            Ok(DockerCredential::UsernamePassword(username, password)) => {
                return check(&password).map(|password| own_of(&username, password));
            }
            Ok(DockerCredential::IdentityToken(_)) => {
                return Err(format!(
                    "{named} holds an identity token for {registry}, which cannot be used: log in \
                     with a user name and a password or access token"
                ));
            }
            Err(CredentialRetrievalError::NoCredentialConfigured) => {}
            Err(error) => last = error,
        }
    }
    Err(format!("{named}: {} for {registry}", reason(&last)))
}

/// The names under which Docker keeps credentials for a registry.
fn servers(registry: &Registry) -> Vec<String> {
    if *registry == Registry::docker_io() {
        return ["https://index.docker.io/v1/", "index.docker.io", "docker.io"]
            .map(str::to_owned)
            .to_vec();
    }
    vec![registry.to_string(), format!("https://{registry}")]
}

/// The error in words of ours: its own may quote what a helper printed.
fn reason(error: &CredentialRetrievalError) -> String {
    match error {
        CredentialRetrievalError::HelperFailure { helper, .. } => {
            format!("the credential helper {helper} failed")
        }
        CredentialRetrievalError::HelperCommunicationError => {
            "the credential helper could not be run".to_owned()
        }
        CredentialRetrievalError::MalformedHelperResponse => {
            "the credential helper answered something unknown".to_owned()
        }
        CredentialRetrievalError::NoCredentialConfigured => "there are no credentials".to_owned(),
        CredentialRetrievalError::ConfigReadError => "it is not a Docker config.json".to_owned(),
        _ => "the credentials cannot be decoded".to_owned(),
    }
}
