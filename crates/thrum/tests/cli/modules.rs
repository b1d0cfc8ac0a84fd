//! Checks that the modules of a crate use each other in one direction only: the graph of uses has no cycle.
//!
//! A module is a file. Module A uses module B if code of A outside its tests names an item of B by path, in a `use` or
//! elsewhere. A path through a re-export counts as a use of the module that defines the item, so a parent may re-export
//! what its children define. A file in `a/` may name items of `a.rs`, because it is a part of that module. Method calls
//! are not detected: they need no path.
//!
//! Example of a cycle: `fold/agent.rs` has `use super::former::homes;`, and `fold/former.rs` has `use
//! super::agent::Registered;`. Code that both need belongs in a module that uses neither.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use syn::{
    Attribute, Item, ItemMod, UseTree, Visibility,
    visit::{self, Visit},
};

/// The path of a module or item from the root of its crate, without the leading `crate`.
type Names = Vec<String>;

/// A module, either a file or inline.
#[derive(Default)]
struct Module {
    /// The module of the file that contains this one: itself, unless it is inline.
    file: Names,
    items: BTreeSet<String>,
    /// Imported names, each with the path it stands for; `true` if other modules may use the name through this module.
    names: Vec<(String, Names, bool)>,
    /// The paths of glob imports (`use …::*`); `true` if the import is public.
    globs: Vec<(Names, bool)>,
    /// All other paths in the module, as written.
    paths: Vec<Names>,
}

#[derive(Default)]
struct Crate {
    modules: BTreeMap<Names, Module>,
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|it| {
        it.path().is_ident("test")
            || (it.path().is_ident("cfg") && it.parse_args::<syn::Ident>().is_ok_and(|what| what == "test"))
    })
}

impl Crate {
    fn read(root: &Path) -> Self {
        let mut all = Self::default();
        all.read_file(root, Vec::new(), root.parent().unwrap().to_owned());
        all
    }

    /// Reads a file. `children` is the directory that contains the files of its child modules.
    fn read_file(&mut self, file: &Path, at: Names, children: PathBuf) {
        let text = fs::read_to_string(file).unwrap();
        let parsed = syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.read_items(&parsed.items, &at, &at, &children);
    }

    fn read_items(&mut self, items: &[Item], at: &Names, file: &Names, children: &Path) {
        let mut module = Module { file: file.clone(), ..Module::default() };
        for item in items {
            match item {
                Item::Mod(child) if !is_for_tests(&child.attrs) => self.read_child(child, at, file, children),
                Item::Mod(_) => {}
                Item::Use(item) if is_for_tests(&item.attrs) => {}
                Item::Use(item) => {
                    let is_public = !matches!(item.vis, Visibility::Inherited);
                    module.import(&item.tree, &mut Vec::new(), is_public);
                }
                other => module.visit_item(other),
            }
        }
        self.modules.insert(at.clone(), module);
    }

    fn read_child(&mut self, child: &ItemMod, at: &Names, file: &Names, children: &Path) {
        let name = child.ident.to_string();
        let mut below = at.clone();
        below.push(name.clone());
        let directory = children.join(&name);
        match &child.content {
            Some((_, items)) => self.read_items(items, &below, file, &directory),
            None => {
                let alone = children.join(format!("{name}.rs"));
                let path = if alone.exists() { alone } else { directory.join("mod.rs") };
                self.read_file(&path, below, directory);
            }
        }
    }

    /// Resolves a path seen from module `from` to the module that defines the item. `None` for items of other crates or
    /// of the language.
    fn module_of(&self, from: &Names, path: &[String], depth: u32) -> Option<Names> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => return self.below(&Vec::new(), rest, depth),
            "self" => return self.below(from, rest, depth),
            "super" => return self.relative(&from[..from.len().checked_sub(1)?].to_vec(), rest, depth),
            _ => {}
        }
        let module = &self.modules[from];
        if let Some((_, target, _)) = module.names.iter().find(|(name, ..)| name == first) {
            let whole: Names = target.iter().chain(rest).cloned().collect();
            // A name that stands for itself belongs to another crate.
            return if depth > 0 && whole[0] != *first { self.module_of(from, &whole, depth - 1) } else { None };
        }
        let mut child = from.clone();
        child.push(first.clone());
        if self.modules.contains_key(&child) { self.below(&child, rest, depth) } else { None }
    }

    /// Resolves the rest of a path after `super`, which may be repeated.
    fn relative(&self, from: &Names, path: &[String], depth: u32) -> Option<Names> {
        match path.split_first() {
            Some((first, rest)) if first == "super" => {
                self.relative(&from[..from.len().checked_sub(1)?].to_vec(), rest, depth)
            }
            _ => self.below(from, path, depth),
        }
    }

    /// Resolves a path below a module to the module that defines the item.
    fn below(&self, module: &Names, path: &[String], depth: u32) -> Option<Names> {
        let Some((first, rest)) = path.split_first() else { return Some(module.clone()) };
        let mut child = module.clone();
        child.push(first.clone());
        if self.modules.contains_key(&child) {
            return self.below(&child, rest, depth);
        }
        let here = &self.modules[module];
        if here.items.contains(first) || depth == 0 {
            return Some(module.clone());
        }
        if let Some((_, target, _)) = here.names.iter().find(|(name, ..)| name == first) {
            let whole: Names = target.iter().chain(rest).cloned().collect();
            return self.module_of(module, &whole, depth - 1);
        }
        for (target, _) in &here.globs {
            if let Some(found) = self.module_of(module, target, depth - 1)
                && found != *module
                && self.has(&found, first, depth - 1)
            {
                return self.below(&found, path, depth - 1);
            }
        }
        Some(module.clone())
    }

    fn has(&self, module: &Names, name: &str, depth: u32) -> bool {
        let here = &self.modules[module];
        here.items.contains(name)
            || here.names.iter().any(|(it, _, is_public)| it == name && *is_public)
            || (depth > 0
                && here.globs.iter().any(|(target, _)| {
                    self.module_of(module, target, depth - 1).is_some_and(|it| self.has(&it, name, depth - 1))
                }))
    }

    /// For each file, the files that it uses, each with an example of a path that does.
    fn uses(&self) -> BTreeMap<Names, BTreeMap<Names, String>> {
        const DEEP: u32 = 8;
        let mut all: BTreeMap<Names, BTreeMap<Names, String>> = BTreeMap::new();
        for (at, module) in &self.modules {
            let imported = module.names.iter().map(|(_, path, is_public)| (path, *is_public));
            let globs = module.globs.iter().map(|(path, is_public)| (path, *is_public));
            let named = module.paths.iter().map(|path| (path, false));
            for (path, is_public) in imported.chain(globs).chain(named) {
                let Some(found) = self.module_of(at, path, DEEP) else { continue };
                let used = &self.modules[&found].file;
                // A parent that only re-exports an item of a child does not use the child.
                let is_offer = is_public && used.starts_with(&module.file);
                let is_in_it = !used.is_empty() && module.file.starts_with(used);
                if !is_offer && !is_in_it {
                    all.entry(module.file.clone()).or_default().entry(used.clone()).or_insert_with(|| path.join("::"));
                }
            }
        }
        all
    }
}

impl Module {
    fn import(&mut self, tree: &UseTree, path: &mut Names, is_public: bool) {
        match tree {
            UseTree::Path(part) => {
                path.push(part.ident.to_string());
                self.import(&part.tree, path, is_public);
                path.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|part| self.import(part, path, is_public)),
            UseTree::Glob(_) => self.globs.push((path.clone(), is_public)),
            UseTree::Name(name) if name.ident == "self" => {
                self.names.push((path.last().unwrap().clone(), path.clone(), is_public));
            }
            UseTree::Name(name) => {
                let whole = path.iter().cloned().chain([name.ident.to_string()]).collect();
                self.names.push((name.ident.to_string(), whole, is_public));
            }
            UseTree::Rename(name) => {
                let last = (name.ident != "self").then(|| name.ident.to_string());
                self.names.push((name.rename.to_string(), path.iter().cloned().chain(last).collect(), is_public));
            }
        }
    }

    /// Collects paths from the tokens of a macro call, which are not parsed as code.
    fn tokens(&mut self, tokens: proc_macro2::TokenStream) {
        let mut path = Names::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                proc_macro2::TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end(&mut path);
                    }
                    path.push(ident.to_string());
                    colons = 0;
                }
                proc_macro2::TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                proc_macro2::TokenTree::Group(group) => {
                    self.end(&mut path);
                    colons = 0;
                    self.tokens(group.stream());
                }
                _ => {
                    self.end(&mut path);
                    colons = 0;
                }
            }
        }
        self.end(&mut path);
    }

    fn end(&mut self, path: &mut Names) {
        if path.len() > 1 {
            self.paths.push(std::mem::take(path));
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Module {
    fn visit_item(&mut self, item: &'ast Item) {
        let (name, attributes) = match item {
            Item::Const(it) => (Some(&it.ident), &it.attrs),
            Item::Enum(it) => (Some(&it.ident), &it.attrs),
            Item::Fn(it) => (Some(&it.sig.ident), &it.attrs),
            Item::Macro(it) => (it.ident.as_ref(), &it.attrs),
            Item::Static(it) => (Some(&it.ident), &it.attrs),
            Item::Struct(it) => (Some(&it.ident), &it.attrs),
            Item::Trait(it) => (Some(&it.ident), &it.attrs),
            Item::Type(it) => (Some(&it.ident), &it.attrs),
            Item::Impl(it) => (None, &it.attrs),
            Item::Use(it) => {
                // A `use` inside a function.
                self.import(&it.tree, &mut Vec::new(), false);
                return;
            }
            _ => return,
        };
        if is_for_tests(attributes) {
            return;
        }
        self.items.extend(name.map(ToString::to_string));
        visit::visit_item(self, item);
    }

    fn visit_visibility(&mut self, _: &'ast Visibility) {
        // `pub(in crate::…)` is not a use.
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.paths.push(path.segments.iter().map(|part| part.ident.to_string()).collect());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, it: &'ast syn::Macro) {
        self.tokens(it.tokens.clone());
        visit::visit_macro(self, it);
    }
}

/// Groups of files in which each file uses every other one, directly or through others.
fn cycles(uses: &BTreeMap<Names, BTreeMap<Names, String>>) -> Vec<BTreeSet<Names>> {
    let reached = |from: &Names| {
        let mut found = BTreeSet::new();
        let mut open = vec![from];
        while let Some(next) = open.pop() {
            for used in uses.get(next).into_iter().flat_map(BTreeMap::keys) {
                if found.insert(used) {
                    open.push(used);
                }
            }
        }
        found
    };
    let reach: BTreeMap<&Names, BTreeSet<&Names>> = uses.keys().map(|from| (from, reached(from))).collect();
    let mut groups: Vec<BTreeSet<Names>> = Vec::new();
    for (from, there) in &reach {
        let back = |it: &&Names| reach.get(*it).is_some_and(|from_there| from_there.contains(from));
        let group: BTreeSet<Names> = there.iter().copied().filter(back).cloned().collect();
        if !group.is_empty() && !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

#[test]
fn the_module_graph_is_acyclic() {
    let mut wrong = String::new();
    for name in ["thrum-core", "thrum-store", "thrum-sync", "thrum-tailnet", "thrum-daemon", "thrum"] {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src");
        let library = source.join("lib.rs");
        let all = Crate::read(&if library.exists() { library } else { source.join("main.rs") });
        assert!(all.modules.len() > 9, "{name}: {}", all.modules.len());
        let uses = all.uses();
        for group in cycles(&uses) {
            wrong += &format!("{name}: {} files in a cycle\n", group.len());
            for from in &group {
                for (to, path) in uses[from].iter().filter(|(to, _)| group.contains(*to)) {
                    wrong += &format!("    {} uses {} ({path})\n", from.join("::"), to.join("::"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
