"""Tasks: small pure functions of a document, in a registry."""

# Importing these registers their tasks.
from jaxtask.corpora.tasks import classes as classes
from jaxtask.corpora.tasks import coreference as coreference
from jaxtask.corpora.tasks import counting as counting
from jaxtask.corpora.tasks import entities as entities
from jaxtask.corpora.tasks import roles as roles
from jaxtask.corpora.tasks import summaries as summaries
from jaxtask.corpora.tasks import syntax as syntax
from jaxtask.corpora.tasks.registry import TASKS as TASKS
from jaxtask.corpora.tasks.registry import Task as Task
from jaxtask.corpora.tasks.registry import faults_of as faults_of
from jaxtask.corpora.tasks.registry import find_tasks as find_tasks
from jaxtask.corpora.tasks.registry import load_tasks as load_tasks
from jaxtask.corpora.tasks.registry import task as task
