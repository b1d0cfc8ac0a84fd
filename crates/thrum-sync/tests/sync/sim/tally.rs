//! Counts of a run's actions and faults, to be summed up and displayed.

use std::fmt;

macro_rules! tally {
    ($($name:ident),* $(,)?) => {
        /// Counts of one run or of many.
        #[derive(Clone, Debug, Default, PartialEq, Eq)]
        pub struct Tally { $(pub $name: usize),* }

        impl Tally {
            pub fn add(&mut self, other: &Self) { $(self.$name += other.$name;)* }
        }

        impl fmt::Display for Tally {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let counts = [$((stringify!($name), self.$name)),*];
                let shown = counts.iter().map(|(name, count)| format!("{} {count}", name.replace('_', " ")));
                f.write_str(&shown.collect::<Vec<_>>().join(", "))
            }
        }
    };
}

tally!(
    seeds,
    daemons,
    old_peers,
    written,
    applied,
    referred,
    lacked,
    kills,
    crashes_within_a_write,
    crashes_between_database_and_daemon_json,
    stops,
    starts,
    partitions,
    one_way_partitions,
    closed_connections,
    clock_jumps,
    restored_databases,
    deleted_databases,
    copied_repositories,
    moved_repositories,
    hanging_peers,
    poisoned_events,
    new_logs,
    sent,
    lost,
    doubled,
    git_exchanges,
    git_faults,
    deleted_refs,
);
