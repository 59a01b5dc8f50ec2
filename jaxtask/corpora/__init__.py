"""Annotated documents, and the tasks that are built from them."""

from jaxtask.corpora.build import build_tasks as build_tasks
from jaxtask.corpora.conll import read_conll as read_conll
from jaxtask.corpora.conll_write import write_conll as write_conll
from jaxtask.corpora.detokenise import detokenise as detokenise
from jaxtask.corpora.document import Document as Document
from jaxtask.corpora.document import Mention as Mention
from jaxtask.corpora.document import Predicate as Predicate
from jaxtask.corpora.document import Sentence as Sentence
from jaxtask.corpora.document import Span as Span
from jaxtask.corpora.hub import read_hub as read_hub
from jaxtask.corpora.length import WORDS as WORDS
from jaxtask.corpora.length import Length as Length
from jaxtask.corpora.length import tokens_of as tokens_of
from jaxtask.corpora.prompt import plain_prompt as plain_prompt
from jaxtask.corpora.read import read_documents as read_documents
from jaxtask.corpora.table import build_table as build_table
from jaxtask.corpora.tasks import TASKS as TASKS
from jaxtask.corpora.tasks import load_tasks as load_tasks
from jaxtask.corpora.tasks import task as task
from jaxtask.corpora.text import build_text as build_text
from jaxtask.corpora.tree import Tree as Tree
