//! Network policies. They hold for pods, never for the nodes' own pulls.

use std::collections::BTreeSet;

use clap::Args;

use super::network::{Network, private_and};
use crate::cli::setup::setting::{About, MARK, Merge, Setting};

#[derive(Debug, Args)]
pub(super) struct KubernetesArgs {
    /// A namespace whose pods are kept in; may be repeated [default: default]
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    namespace: Vec<String>,
    /// The namespace that immutag runs in
    #[arg(long, value_name = "NAME", default_value = "immutag", value_parser = parse_name)]
    immutag_namespace: String,
    /// The value of `app.kubernetes.io/name` on immutag's pods
    #[arg(long, value_name = "NAME", default_value = "immutag", value_parser = parse_name)]
    immutag_name: String,
    /// A network besides the private ones that every pod may reach; may be repeated
    #[arg(long, value_name = "CIDR")]
    allow: Vec<Network>,
}

/// The policies.
pub(super) fn setting(args: &KubernetesArgs) -> Setting {
    let mut namespaces: BTreeSet<&str> = args.namespace.iter().map(String::as_str).collect();
    if namespaces.is_empty() {
        namespaces.insert("default");
    }
    // Whoever else is in immutag's namespace is kept in, too.
    namespaces.insert(&args.immutag_namespace);
    let mut content = format!("# {MARK} egress kubernetes`.\n");
    for namespace in &namespaces {
        content.push_str(&closed(namespace, &private_and(&args.allow)));
        content.push_str("---\n");
    }
    content.push_str(&opened(&args.immutag_namespace, &args.immutag_name));
    let mut setting = Setting::new("egress kubernetes");
    setting.file("immutag-egress.yaml", content, Merge::Own);
    note(&namespaces, &mut setting);
    setting
}

fn closed(namespace: &str, networks: &[Network]) -> String {
    let block =
        |network: &Network| format!("        - ipBlock:\n            cidr: \"{network}\"\n");
    let blocks: String = networks.iter().map(block).collect();
    format!(
        "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: immutag-egress-closed
  namespace: \"{namespace}\"
spec:
  podSelector: {{}}
  policyTypes:
    - Egress
  egress:
    # Names, wherever the cluster's DNS is.
    - ports:
        - protocol: UDP
          port: 53
        - protocol: TCP
          port: 53
    # Every pod of the cluster, and private networks.
    - to:
        - namespaceSelector: {{}}
{blocks}"
    )
}

fn opened(namespace: &str, name: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: immutag-egress-open
  namespace: \"{namespace}\"
spec:
  podSelector:
    matchLabels:
      app.kubernetes.io/name: \"{name}\"
  policyTypes:
    - Egress
  egress:
    - {{}}
"
    )
}

fn note(namespaces: &BTreeSet<&str>, setting: &mut Setting) {
    let names = namespaces.iter().copied().collect::<Vec<_>>().join(", ");
    setting.note(
        About::Closed,
        format!(
            "pods in these namespaces reach nothing outside but DNS, immutag's excepted: {names}. \
             So builders in pods (BuildKit, kaniko) cannot go round it"
        ),
    );
    setting.note(
        About::Open,
        "the nodes: kubelet's pulls are made by the node's own containerd or CRI-O in the host's \
         network, where no policy holds. Set these to immutag (`immutag setup containerd`), and \
         put the rules of `immutag setup egress nftables` on the nodes",
    );
    setting.note(
        About::Open,
        "pods with hostNetwork, pods in other namespaces (--namespace), registries and proxies in \
         private networks; and every pod where the network plugin enforces no policies (flannel \
         alone does not)",
    );
    setting.note(
        About::Open,
        "whoever may label a pod in immutag's namespace can make it look like immutag's",
    );
    setting.note(About::Pushes, "nowhere outside from these pods: immutag takes none");
    setting.note(
        About::Then,
        "`kubectl apply -f immutag-egress.yaml`; undo: `kubectl delete -f immutag-egress.yaml`",
    );
}

/// Reads a name that is a DNS label.
fn parse_name(text: &str) -> Result<String, String> {
    let is_plain = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit();
    let is_name = text.len() <= 63
        && text.starts_with(is_plain)
        && text.ends_with(is_plain)
        && text.chars().all(|letter| is_plain(letter) || letter == '-');
    is_name.then(|| text.to_owned()).ok_or_else(|| format!("{text} is no name of a namespace"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policies() {
        let args = KubernetesArgs {
            namespace: vec!["builds".to_owned()],
            immutag_namespace: "immutag".to_owned(),
            immutag_name: "immutag".to_owned(),
            allow: vec!["203.0.113.0/24".parse().unwrap()],
        };
        let setting = setting(&args);
        insta::assert_snapshot!(setting.files[0].content);
        let open: Vec<_> = setting.notes.iter().filter(|note| note.about == About::Open).collect();
        assert!(open[0].text.contains("where no policy holds"), "{open:?}");
    }

    #[test]
    fn a_name_cannot_break_out_of_the_file() {
        for text in ["", "a\"", "A", "-a", "a-", "a\nb", "a b"] {
            assert!(parse_name(text).is_err(), "{text}");
        }
        assert_eq!(parse_name("kube-system").unwrap(), "kube-system");
    }
}
