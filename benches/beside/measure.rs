//! Rounds in turn, medians, tables; CPU and memory of a server's processes.

use std::time::Duration;

/// How many rounds are made; `ROUNDS` says otherwise.
pub(crate) fn rounds() -> usize {
    number_from("ROUNDS", 4)
}

/// A number from the environment.
pub(crate) fn number_from(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Measures `count` things in turn, forth and back, and gives the medians of each.
pub(crate) fn in_turn<const N: usize>(
    count: usize,
    rounds: usize,
    mut measure: impl FnMut(usize) -> [f64; N],
) -> Vec<[f64; N]> {
    let mut all: Vec<Vec<[f64; N]>> = vec![Vec::new(); count];
    for round in 0..rounds {
        for step in 0..count {
            let index = if round % 2 == 0 { step } else { count - 1 - step };
            all[index].push(measure(index));
        }
    }
    all.iter()
        .map(|rounds| std::array::from_fn(|at| median(rounds.iter().map(|it| it[at]))))
        .collect()
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => values[middle],
        _ => values[middle - 1].midpoint(values[middle]),
    }
}

/// Prints a heading and the columns below it.
pub(crate) fn heading(title: &str, columns: &[&str]) {
    println!("\n{title}");
    let cells: Vec<_> = columns.iter().map(|column| format!("{column:>12}")).collect();
    println!("{:<16}{:<16}{}", "", "server", cells.concat());
}

/// Prints one row; `places` are the decimals of each value.
pub(crate) fn row<const N: usize>(
    what: &str,
    server: &str,
    values: &[f64; N],
    places: [usize; N],
    note: &str,
) {
    let cell = |(value, places): (&f64, usize)| {
        if value.is_nan() { format!("{:>12}", "-") } else { format!("{value:>12.places$}") }
    };
    let cells: Vec<_> = values.iter().zip(places).map(cell).collect();
    println!("{what:<16}{server:<16}{}   {note}", cells.concat());
}

/// `a / b`, as words.
pub(crate) fn ratio(a: f64, b: f64) -> String {
    if a.is_nan() || b.is_nan() || b == 0.0 { "-".to_owned() } else { format!("{:.2}", a / b) }
}

/// CPU time, user and system, of a process and its children, the ended ones included.
pub(crate) fn cpu_of(process: u32) -> Duration {
    let ticks: u64 = family(process).into_iter().map(ticks_of).sum();
    Duration::from_millis(ticks * 10)
}

/// The most that a process and its children had resident since [`forget_peak`], in MiB.
pub(crate) fn peak_mib(process: u32) -> f64 {
    mib(process, "VmHWM:")
}

/// What a process and its children have resident, in MiB.
pub(crate) fn resident_mib(process: u32) -> f64 {
    mib(process, "VmRSS:")
}

/// From now on the peak counts anew.
pub(crate) fn forget_peak(process: u32) {
    for id in family(process) {
        // Told to none but the kernel; where it is not allowed, the peak is that of all its life.
        let _ = std::fs::write(format!("/proc/{id}/clear_refs"), "5");
    }
}

fn mib(process: u32, field: &str) -> f64 {
    let kib = |id: u32| -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0.0)
    };
    family(process).into_iter().map(kib).sum::<f64>() / 1024.0
}

/// A process and its children.
fn family(process: u32) -> Vec<u32> {
    let mut family = vec![process];
    for entry in std::fs::read_dir("/proc").expect("/proc is there").flatten() {
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if fields(id).get(1).is_some_and(|parent| *parent == process.to_string()) {
            family.push(id);
        }
    }
    family
}

fn ticks_of(process: u32) -> u64 {
    let fields = fields(process);
    let at = |index: usize| fields.get(index).and_then(|field| field.parse::<u64>().ok());
    at(11).unwrap_or(0) + at(12).unwrap_or(0)
}

/// What `/proc/PID/stat` says after the program's name.
fn fields(process: u32) -> Vec<String> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let rest = stat.rsplit(')').next().unwrap_or_default();
    rest.split_whitespace().map(str::to_owned).collect()
}
