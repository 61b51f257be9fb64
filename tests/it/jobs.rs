//! The recipes of `config/ci/`, as they stand there, run by a project whose publisher moves a tag
//! between two builds. `docs/ci.md` shows the shell job's run; `--success-output immediate` prints
//! them all.
//!
//! Each is played in a world of its own: there the recipes may write to `/etc`, and have the ports
//! that immutag listens on by default.

mod project;
mod recipe;

use project::Project;
use recipe::{in_blocks, in_script};

use crate::support::apart::apart;
use crate::support::docker::Docker;
use crate::support::process::have;

/// Where the project's registry is, and what its names lead to.
const HOSTS: [(&str, &[&str]); 1] = [("127.0.0.9", &["registry.example"])];

#[test]
fn a_shell_job_with_buildah_fails_under_lock_after_a_tag_was_moved() {
    if !have(&["buildah", "docker-registry"]) {
        return;
    }
    apart(&a_shell_job_with_buildah_fails_under_lock_after_a_tag_was_moved, &HOSTS, || {
        let mut project = Project::new("registry.example");
        play(&mut project, &recipe::file("shell.sh"));
        assert_eq!(project.label_by("buildah", "app", "seed"), "base 1");
        let report = project.read("report.md");
        assert!(report.contains("registry.example/team/base:1.2.3"), "{report}");
    });
}

#[test]
fn a_job_with_podman_fails_under_lock_after_a_tag_was_moved() {
    if !have(&["podman", "docker-registry"]) {
        return;
    }
    apart(&a_job_with_podman_fails_under_lock_after_a_tag_was_moved, &HOSTS, || {
        let mut project = Project::new("registry.example");
        play(&mut project, &recipe::file("podman.sh"));
        assert_eq!(project.label_by("podman", "app", "seed"), "base 1");
    });
}

#[test]
fn a_job_with_docker_fails_under_lock_after_a_tag_was_moved() {
    if !have(&["containerd", "docker", "dockerd", "docker-registry"]) {
        return;
    }
    apart(&a_job_with_docker_fails_under_lock_after_a_tag_was_moved, &HOSTS, || {
        let mut project = Project::new("docker.io");
        let docker = Docker::start(&["http://127.0.0.1:5050"], "");
        project.variable("DOCKER_HOST", &docker.host());
        play(&mut project, &recipe::file("docker.sh"));
    });
}

#[test]
fn the_steps_of_the_github_workflow_fail_under_lock_after_a_tag_was_moved() {
    if !have(&["podman", "docker-registry"]) {
        return;
    }
    apart(&the_steps_of_the_github_workflow_fail_under_lock_after_a_tag_was_moved, &HOSTS, || {
        let mut project = Project::new("registry.example");
        let summary = project.path("summary.md");
        project.variable("GITHUB_ACTIONS", "true");
        project.variable("GITHUB_STEP_SUMMARY", &summary.display().to_string());
        let log = play(&mut project, &in_blocks("github-actions.yml", "run:"));
        assert!(log.contains("::error file=Dockerfile,line=2"), "{log}");
        assert!(project.read("summary.md").contains("registry.example/team/base:1.2.3"));
        assert!(project.read("immutag.sarif").contains("\"startLine\": 2"));
    });
}

#[test]
fn the_script_of_the_gitlab_job_fails_under_lock_after_a_tag_was_moved() {
    if !have(&["buildah", "docker-registry"]) {
        return;
    }
    apart(&the_script_of_the_gitlab_job_fails_under_lock_after_a_tag_was_moved, &HOSTS, || {
        let mut project = Project::new("registry.example");
        play(&mut project, &in_script("gitlab-ci.yml"));
        let quality = project.read("gl-code-quality-report.json");
        assert!(quality.contains("\"begin\": 2") && quality.contains("Dockerfile"), "{quality}");
        assert!(project.read("immutag.xml").contains("<failure"));
    });
}

/// Two builds with a push over a tag between them, and a third of a Dockerfile that names what
/// nobody reviewed. Gives what the second printed.
#[track_caller]
fn play(project: &mut Project, job: &str) -> String {
    let first = project.run("The first build: all is as in the lock", job);
    assert_eq!(first.code, 0, "{}", first.log);

    project.move_base();
    let second = project.run("The publisher's base:1.2.3 was pushed over", job);
    assert_eq!(second.code, 3, "{}", second.log);
    for digest in Project::base_digests() {
        assert!(second.log.contains(&digest[..19]), "no {digest} in\n{}", second.log);
    }

    project.name_another_image();
    let third = project.run("The Dockerfile names an image that the lock does not have", job);
    assert_eq!(third.code, 6, "{}", third.log);
    assert!(third.log.contains("team/other:3.0.0"), "{}", third.log);
    let unchecked: String = job
        .lines()
        .filter(|line| !line.contains("lock --check"))
        .fold(String::new(), |job, line| job + line + "\n");
    let fourth = project.run("The same without the check", &unchecked);
    assert_ne!(fourth.code, 0, "{}", fourth.log);
    assert!(fourth.log.contains("PIN_REQUIRED") || fourth.log.contains("lock"), "{}", fourth.log);
    second.log
}
