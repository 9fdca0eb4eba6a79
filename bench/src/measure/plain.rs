//! One window.

use super::Run;
use crate::engine::Session;
use crate::failure::Failure;
use crate::outcome::Outcome;
use crate::progress::Progress;
use crate::subject::Subject;

pub(super) fn measure<S: Subject>(run: &Run<S>, progress: &mut Progress) -> Result<Outcome, Failure> {
    let mut session = Session::open(run.subject.dialect(), run.work, run.load_cpus(), false)?;
    let window = run.work.window();
    let measured =
        session.window(run.subject.process(), &window, &mut |passed| progress.at(passed, window.whole()))?;
    let mut outcome = run.outcome(&measured)?;
    run.finish(session, &mut outcome)?;
    Ok(outcome)
}
