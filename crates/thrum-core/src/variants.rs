//! The list of all variants of an enum.

/// Gives an enum whose variants have no fields the constant `ALL`: its variants, in the order in which they are named
/// here. Does not compile if a variant is missing.
#[macro_export]
macro_rules! list_variants {
    ($visibility:vis $list:ident: $($variant:ident),+ $(,)?) => {
        impl $list {
            /// All variants.
            $visibility const ALL: [Self; [$(stringify!($variant)),+].len()] = [$(Self::$variant),+];
        }

        /// Matches exactly the variants of the list, so that a variant outside of it is an error.
        const _: fn($list) = |variant| match variant {
            $($list::$variant)|+ => {}
        };
    };
}
